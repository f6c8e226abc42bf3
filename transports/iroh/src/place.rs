//! Where a peer is: its key, and hints where to look for it.

use std::io;
use std::net::SocketAddr;

use iroh::{EndpointAddr, EndpointId, RelayUrl, TransportAddr};

/// How many hints an address may have.
pub const MAX_HINTS: usize = 8;

/// How many characters of a bad hint an error quotes.
const SHOWN: usize = 64;

/// A peer, and where it may be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) id: EndpointId,
    pub(crate) direct: Vec<SocketAddr>,
    pub(crate) relays: Vec<RelayUrl>,
}

impl Place {
    /// Reads a key, and what follows it in an address: nothing, or
    /// `?addr=IP:PORT&relay=URL&addr=..`.
    pub(crate) fn parse(key: &[u8; 32], hints: &str) -> io::Result<Self> {
        let id = EndpointId::from_bytes(key).map_err(|_| invalid("this is not a public key"))?;
        let mut place = Self {
            id,
            direct: Vec::new(),
            relays: Vec::new(),
        };
        if hints.is_empty() {
            return Ok(place);
        }
        let Some(hints) = hints.strip_prefix('?') else {
            return Err(unreadable(hints));
        };
        for (count, hint) in hints.split('&').enumerate() {
            if count == MAX_HINTS {
                return Err(invalid(format!("more than {MAX_HINTS} hints")));
            }
            match hint.split_once('=') {
                Some(("addr", addr)) => place.direct.push(parse_addr(addr)?),
                Some(("relay", url)) => place.relays.push(parse_relay(url)?),
                _ => return Err(unreadable(hint)),
            }
        }
        Ok(place)
    }

    /// Returns the address for iroh, with those direct addresses that are `permitted`, and with
    /// the `relays` of the endpoint itself if the address names none.
    pub(crate) fn to_endpoint(
        &self,
        permitted: impl IntoIterator<Item = SocketAddr>,
        relays: &[RelayUrl],
    ) -> EndpointAddr {
        let relays = match self.relays.is_empty() {
            true => relays,
            false => &self.relays,
        };
        let direct = permitted.into_iter().map(TransportAddr::Ip);
        let relays = relays.iter().cloned().map(TransportAddr::Relay);
        EndpointAddr::from_parts(self.id, direct.chain(relays))
    }
}

fn parse_addr(text: &str) -> io::Result<SocketAddr> {
    match text.parse::<SocketAddr>() {
        Ok(addr) if addr.port() != 0 => Ok(addr),
        _ => Err(invalid(format!("{}: write addr=IP:PORT", shown(text)))),
    }
}

fn parse_relay(text: &str) -> io::Result<RelayUrl> {
    let is_web = text.starts_with("https://") || text.starts_with("http://");
    match text.parse() {
        Ok(url) if is_web => Ok(url),
        _ => Err(invalid(format!(
            "{}: write relay=https://HOST",
            shown(text)
        ))),
    }
}

fn unreadable(hint: &str) -> io::Error {
    let shown = shown(hint);
    invalid(format!("{shown}: write iroh:ID?addr=IP:PORT&relay=URL"))
}

/// Quotes and truncates text that may come from a peer.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(SHOWN).collect();
    format!("{short:?}")
}

fn invalid(problem: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, problem.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> [u8; 32] {
        *iroh::SecretKey::from_bytes(&[7; 32]).public().as_bytes()
    }

    fn hints(text: &str) -> Result<(Vec<String>, Vec<String>), String> {
        let place = Place::parse(&key(), text).map_err(|error| error.to_string())?;
        let direct = place.direct.iter().map(ToString::to_string);
        let relays = place.relays.iter().map(ToString::to_string);
        Ok((direct.collect(), relays.collect()))
    }

    #[test]
    fn a_key_alone_is_an_address() {
        assert_eq!(hints(""), Ok((vec![], vec![])));
    }

    #[test]
    fn hints_say_where_to_look() {
        let text = "?addr=127.0.0.1:7&relay=https://relay.example&addr=[2001:db8::1]:9";
        let direct = vec!["127.0.0.1:7".to_owned(), "[2001:db8::1]:9".to_owned()];
        let relays = vec!["https://relay.example/".to_owned()];
        assert_eq!(hints(text), Ok((direct, relays)));
    }

    #[test]
    fn what_is_no_hint_is_said() {
        let cases = [
            ("/x", r#""/x": write iroh:ID?addr=IP:PORT&relay=URL"#),
            ("?", r#""": write iroh:ID?addr=IP:PORT&relay=URL"#),
            ("?at=1", r#""at=1": write iroh:ID?addr=IP:PORT&relay=URL"#),
            ("?addr=a:1", r#""a:1": write addr=IP:PORT"#),
            ("?addr=127.0.0.1:0", r#""127.0.0.1:0": write addr=IP:PORT"#),
            ("?relay=ftp://a", r#""ftp://a": write relay=https://HOST"#),
        ];
        for (text, error) in cases {
            assert_eq!(hints(text), Err(error.to_owned()));
        }
        let many = format!("?{}", ["addr=127.0.0.1:1"; MAX_HINTS + 1].join("&"));
        assert_eq!(hints(&many), Err("more than 8 hints".to_owned()));
    }

    #[test]
    fn a_relay_that_is_named_replaces_our_own() {
        let ours = ["https://ours.example".parse().expect("a URL")];
        let place = |text| Place::parse(&key(), text).expect("an address");
        let relays = |place: Place| {
            let addr = place.to_endpoint([], &ours);
            addr.relay_urls()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(relays(place("")), ["https://ours.example/"]);
        assert_eq!(
            relays(place("?relay=https://theirs.example")),
            ["https://theirs.example/"]
        );
    }
}
