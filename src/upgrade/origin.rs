//! Which pages may join: those of the same server, unless told otherwise.

use std::net::IpAddr;

use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue};

/// Returns the origin of the page that a request comes from: `Ok(None)` if it is not from a page,
/// and `Err` if it names several.
pub(super) fn of(headers: &HeaderMap) -> Result<Option<&HeaderValue>, ()> {
    let mut origins = headers.get_all(ORIGIN).iter();
    let first = origins.next();
    match origins.next() {
        None => Ok(first),
        Some(_) => Err(()),
    }
}

/// Returns whether the page is of the server that the request goes to. Either scheme is right,
/// because a proxy in front of the server may end TLS.
///
/// The server is known by an IP address, as `localhost`, or by one of `names`: any other name may
/// be one of strangers that leads to its address.
pub(super) fn is_same(origin: &HeaderValue, headers: &HeaderMap, names: &[String]) -> bool {
    let page = ["http://", "https://"]
        .iter()
        .find_map(|scheme| origin.as_bytes().strip_prefix(scheme.as_bytes()));
    let host = headers.get(HOST).map(HeaderValue::as_bytes);
    page.zip(host)
        .is_some_and(|(page, host)| page.eq_ignore_ascii_case(host) && is_own(host, names))
}

fn is_own(host: &[u8], names: &[String]) -> bool {
    let Ok(authority) = Authority::try_from(host) else {
        return false;
    };
    let name = authority.host();
    let addr = name.trim_start_matches('[').trim_end_matches(']');
    addr.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|own| own.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(host: &str, origins: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        for origin in origins {
            headers.append(ORIGIN, origin.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_name_of_strangers_is_not_the_server_s() {
        let names = ["site.example".to_owned()];
        for (host, same) in [
            ("127.0.0.1:80", true),
            ("[::1]:80", true),
            ("localhost", true),
            ("site.example:80", true),
            ("evil.example:80", false),
            ("site.example.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
        ] {
            let origin = format!("http://{host}").parse().unwrap();
            assert_eq!(
                is_same(&origin, &headers(host, &[]), &names),
                same,
                "{host}"
            );
        }
    }

    #[test]
    fn a_page_is_known_by_the_server_it_came_from() {
        for (origin, same) in [
            ("http://here:80", true),
            ("https://HERE:80", true),
            ("http://here", false),
            ("ftp://here:80", false),
            ("here:80", false),
            ("null", false),
            ("http://here:80.evil.example", false),
        ] {
            let headers = headers("here:80", &[origin]);
            let of_page = of(&headers).unwrap().unwrap();
            let names = ["Here".to_owned()];
            assert_eq!(is_same(of_page, &headers, &names), same, "{origin}");
        }
        assert_eq!(of(&headers("here", &[])), Ok(None));
        assert_eq!(of(&headers("here", &["http://here", "null"])), Err(()));
    }
}
