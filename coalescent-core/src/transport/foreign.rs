//! Recognizes by its first bytes that the other end of a connection speaks another protocol.
//!
//! A node with an identity and one without cannot talk to each other, and what each reads of the
//! other makes no sense on its wire. These functions tell what it is, so that an error can say what
//! to do.

/// How many bytes from the start of a connection are enough for all decisions.
pub(crate) const FIRST: usize = 9;

/// A protocol that the other end speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// TLS: the greeting of a client, or the alert of a server.
    Tls,
    /// The `native` wire, without TLS.
    Native,
    HttpRequest,
    HttpAnswer,
}

/// Returns the protocol of a connection that begins with these bytes, if it is known.
///
/// Three bytes are enough to recognize TLS. Use it for bytes that are wrong in any case: payloads
/// on other wires than `native` may begin with them, see [`is_tls_record`].
pub(crate) fn spoken(first: &[u8]) -> Option<Spoken> {
    match first {
        [0x15 | 0x16, 3, 0..=4, ..] => Some(Spoken::Tls),
        // HELLO or BYE, of at most 1 KiB.
        [0, 0, 0..=4, _, 0x10 | 0x13, ..] => Some(Spoken::Native),
        _ if begins_with(first, "HTTP/") => Some(Spoken::HttpAnswer),
        _ if METHODS.iter().any(|method| begins_with(first, method)) => Some(Spoken::HttpRequest),
        _ => None,
    }
}

/// The beginnings of HTTP requests; the last one is that of HTTP/2.
const METHODS: [&str; 10] = [
    "GET ",
    "HEAD ",
    "POST ",
    "PUT ",
    "DELETE ",
    "CONNECT ",
    "OPTIONS ",
    "TRACE ",
    "PATCH ",
    "PRI * HTTP",
];

/// Returns whether bytes begin with a word, as far as they go, if they are at least four.
fn begins_with(bytes: &[u8], word: &str) -> bool {
    let len = bytes.len().min(word.len());
    len >= 4 && bytes.get(..len) == word.as_bytes().get(..len)
}

/// Returns whether bytes are the start of a TLS client's greeting, or the alert of a server that
/// was greeted otherwise; `None` if they are too few to know.
///
/// It is strict, for wires on which any bytes can be a payload.
pub(crate) fn is_tls_record(first: &[u8]) -> Option<bool> {
    match *first {
        // A record with one message, the ClientHello, which is four bytes shorter than the record.
        [0x16, 3, 1..=3, high, low, 1, 0, inner_high, inner_low, ..] => {
            let record = u16::from_be_bytes([high, low]);
            let inner = u16::from_be_bytes([inner_high, inner_low]);
            Some(record.checked_sub(4) == Some(inner))
        }
        [0x15, 3, 0..=4, 0, 2, 1 | 2, ..] => Some(true),
        _ => {
            let may_become = |pattern: &[&[u8]]| {
                let mut pairs = first.iter().zip(pattern);
                first.len() < pattern.len()
                    && pairs.all(|(byte, allowed)| allowed.is_empty() || allowed.contains(byte))
            };
            let any: &[u8] = &[];
            let hello: [&[u8]; FIRST] = [&[0x16], &[3], &[1, 2, 3], any, any, &[1], &[0], any, any];
            let alert: [&[u8]; 6] = [&[0x15], &[3], &[0, 1, 2, 3, 4], &[0], &[2], &[1, 2]];
            (!may_become(&hello) && !may_become(&alert)).then_some(false)
        }
    }
}

impl Spoken {
    /// Returns what is wrong, and what to do, for a node without TLS.
    pub(crate) fn to_plain(self) -> Option<&'static str> {
        match self {
            Self::Tls => Some(
                "the peer speaks TLS, and this node does not: give this app an identity, or start \
                 the peer without one",
            ),
            Self::Native => None,
            Self::HttpRequest | Self::HttpAnswer => self.http(),
        }
    }

    /// Returns what is wrong, and what to do, for a node with TLS.
    #[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "no node has TLS"))]
    pub(crate) fn to_tls(self) -> Option<&'static str> {
        match self {
            Self::Tls => None,
            Self::Native => Some(
                "the peer does not speak TLS, and this node does: give the peer an identity, or \
                 start this node without one",
            ),
            Self::HttpRequest | Self::HttpAnswer => self.http(),
        }
    }

    fn http(self) -> Option<&'static str> {
        match self {
            Self::HttpRequest => Some(
                "this is an HTTP client, and no peer: check the address that it dials, this port \
                 is for peers",
            ),
            Self::HttpAnswer => {
                Some("an HTTP server answers there, and no peer: check the address")
            }
            Self::Tls | Self::Native => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT_HELLO: &[u8] = b"\x16\x03\x01\x00\xee\x01\x00\x00\xea\x03\x03";
    const ALERT: &[u8] = b"\x15\x03\x03\x00\x02\x02\x32";

    #[test]
    fn the_first_bytes_tell_the_protocol() {
        let table: [(&[u8], Option<Spoken>); 21] = [
            (CLIENT_HELLO, Some(Spoken::Tls)),
            (b"\x16\x03\x03", Some(Spoken::Tls)),
            (ALERT, Some(Spoken::Tls)),
            (b"\x00\x00\x00\x3c\x10\x00\x84", Some(Spoken::Native)),
            (b"\x00\x00\x04\x00\x10", Some(Spoken::Native)),
            (b"\x00\x00\x00\x06\x13\x00busy", Some(Spoken::Native)),
            (b"GET / HTTP/1.1\r\n", Some(Spoken::HttpRequest)),
            (b"GET ", Some(Spoken::HttpRequest)),
            (b"POST /", Some(Spoken::HttpRequest)),
            (b"OPTI", Some(Spoken::HttpRequest)),
            (b"PRI * HTTP/2.0\r\n", Some(Spoken::HttpRequest)),
            (b"HTTP/1.1 400 Bad Request", Some(Spoken::HttpAnswer)),
            // None of these.
            (b"", None),
            (b"\x16\x03", None),
            (b"\x16\x02\x00", None),
            (b"\x17\x03\x03", None),
            (b"\x00\x00\x05\x00\x10\x00", None),
            (b"\x00\x00\x00\x3c\x01\x00", None),
            (b"GET", None),
            (b"get / HTTP/1.1", None),
            (b"{\"type\":\"ping\"}\n", None),
        ];
        for (first, expected) in table {
            assert_eq!(spoken(first), expected, "{first:?}");
        }
    }

    #[test]
    fn only_a_whole_record_is_taken_for_tls_where_it_could_be_a_payload() {
        let undecided = |from: &'static [u8], lens: std::ops::Range<usize>| {
            lens.map(move |len| (&from[..len], None))
        };
        let decided: [(&[u8], Option<bool>); 9] = [
            (CLIENT_HELLO, Some(true)),
            (ALERT, Some(true)),
            (&ALERT[..6], Some(true)),
            // Another length inside, another message, another version.
            (b"\x16\x03\x01\x00\xee\x01\x00\x00\xeb", Some(false)),
            (b"\x16\x03\x01\x00\xee\x02", Some(false)),
            (b"\x16\x04", Some(false)),
            (b"\x16\x03\x01\x00\x03\x01\x00\xff\xff", Some(false)),
            (b"\x15\x03\x03\x00\x03", Some(false)),
            (b"hello\n", Some(false)),
        ];
        let table = decided
            .into_iter()
            .chain(undecided(CLIENT_HELLO, 0..FIRST))
            .chain(undecided(ALERT, 0..6));
        for (first, expected) in table {
            assert_eq!(is_tls_record(first), expected, "{first:?}");
        }
    }

    #[test]
    fn each_text_is_one_line_that_says_what_to_do() {
        for spoken in [
            Spoken::Tls,
            Spoken::Native,
            Spoken::HttpRequest,
            Spoken::HttpAnswer,
        ] {
            let texts = [spoken.to_plain(), spoken.to_tls()];
            // Each is wrong for at least one kind of node.
            assert!(texts.iter().any(Option::is_some), "{spoken:?}");
            for text in texts.into_iter().flatten() {
                assert!(text.contains(": ") && !text.contains('\n'), "{text}");
                assert!(text.len() <= 256, "it fits into a BYE");
            }
        }
    }
}
