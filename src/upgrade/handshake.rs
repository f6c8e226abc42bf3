//! The handshake of a WebSocket (RFC 6455, section 4.2): a decision over the head of a request.

use http::header::{CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Version};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::has_word;

/// The version of the protocol.
pub(super) const VERSION: &str = "13";

/// The length of a key: 16 bytes in base64.
const KEY_LEN: usize = 24;

/// Returns whether a request asks for a WebSocket, of whatever version.
pub(super) fn is_asked<B>(request: &Request<B>) -> bool {
    request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && has_word(request.headers(), &CONNECTION, "upgrade")
        && has_word(request.headers(), &UPGRADE, "websocket")
}

/// Returns the `Sec-WebSocket-Accept` that answers a request for a WebSocket, or what is wrong with
/// the request.
pub(super) fn accept(headers: &HeaderMap) -> Result<HeaderValue, &'static str> {
    if only(headers, &SEC_WEBSOCKET_VERSION).is_none_or(|version| version != VERSION) {
        return Err("a WebSocket is of version 13: send one Sec-WebSocket-Version");
    }
    only(headers, &SEC_WEBSOCKET_KEY)
        .filter(|key| is_key(key.as_bytes()))
        .and_then(|key| HeaderValue::try_from(derive_accept_key(key.as_bytes())).ok())
        .ok_or("a WebSocket has a key: send 16 bytes in base64 as one Sec-WebSocket-Key")
}

/// Returns the value of a header that is there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

fn is_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == KEY_LEN
        && key
            .strip_suffix(b"==")
            .is_some_and(|digits| digits.iter().all(is_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn head(version: &[&str], keys: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for version in version {
            headers.append(SEC_WEBSOCKET_VERSION, version.parse().unwrap());
        }
        for key in keys {
            headers.append(SEC_WEBSOCKET_KEY, key.parse().unwrap());
        }
        headers
    }

    #[test]
    fn the_example_of_the_rfc_is_answered() {
        let accept = accept(&head(&["13"], &[KEY])).unwrap();
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn other_versions_and_keys_are_refused() {
        for (version, keys) in [
            (&[][..], &[KEY][..]),
            (&["8"], &[KEY]),
            (&["13", "13"], &[KEY]),
            (&["13"], &[]),
            (&["13"], &[KEY, KEY]),
            (&["13"], &[""]),
            (&["13"], &["dGhlIHNhbXBsZSBub25jZQ="]),
            (&["13"], &["dGhlIHNhbXBsZSBub25jZQAA"]),
            (&["13"], &["dGhlIHNhbXBsZSBub25j,Q=="]),
        ] {
            assert!(
                accept(&head(version, keys)).is_err(),
                "{version:?} {keys:?}"
            );
        }
    }
}
