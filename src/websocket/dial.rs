//! Dialling: the client's side of the handshake, and what goes wrong with it, in one line each.

use std::io;
use std::net::SocketAddr;

use coalescent_core::Address;
use coalescent_core::transport::{Connected, Tcp};
use http::Response;
use http::header::LOCATION;
use tokio::net::lookup_host;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};

use super::error::caused;
use super::transport::{Carried, Ws};

/// How many characters of what a server says an error quotes.
const SHOWN: usize = 100;

/// Connects to one of the addresses of the server, and asks it for a WebSocket.
pub(super) async fn connect(
    ws: &Ws,
    addr: &Address,
    permit: &(dyn Fn(SocketAddr) -> io::Result<()> + Sync),
) -> io::Result<Connected> {
    let addrs = lookup_host((addr.host(), addr.port())).await?;
    let Connected {
        io, addr: there, ..
    } = Tcp.connect_any(addrs, permit).await?;
    let (host, _) = addr.host().split_once('%').unwrap_or((addr.host(), ""));
    let io = match addr.scheme() {
        "wss" => ws.encrypt(io, host).await?,
        _ => io,
    };
    let config = Some(ws.websocket().config());
    let asked = client_async_with_config(uri(addr, host), io, config).await;
    let (socket, _) = asked.map_err(refused)?;
    let io: Carried = ws.websocket().io(socket);
    let connected = Connected::new(io);
    Ok(match there {
        Some(there) => connected.addr(there),
        None => connected,
    })
}

/// Returns what is asked for. A port that goes without saying is left out, since servers tell their
/// sites apart by what is said.
fn uri(addr: &Address, host: &str) -> String {
    let (scheme, path) = (addr.scheme(), addr.path());
    let host = match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    };
    match (scheme, addr.port()) {
        ("ws", 80) | ("wss", 443) => format!("{scheme}://{host}{path}"),
        (_, port) => format!("{scheme}://{host}:{port}{path}"),
    }
}

/// Says why there is no WebSocket.
fn refused(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::Http(answer) => io::Error::other(other_answer(&answer)),
        Error::Protocol(ProtocolError::HandshakeIncomplete) => io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the server has hung up in place of answering a request for a WebSocket",
        ),
        error => caused(io::ErrorKind::Other, "no WebSocket server is there", error),
    }
}

/// Says what a server answers that makes no WebSocket, such as a proxy that knows no such site.
fn other_answer(answer: &Response<Option<Vec<u8>>>) -> String {
    let status = answer.status();
    let mut text = format!("the server answers a request for a WebSocket with {status}");
    let place = answer
        .headers()
        .get(LOCATION)
        .filter(|_| status.is_redirection());
    let body = answer.body().as_deref().unwrap_or_default();
    let line = body.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let (before, said) = match place {
        Some(place) => (", and refers to ", place.as_bytes()),
        None => (": ", line),
    };
    let said = String::from_utf8_lossy(said);
    let said: String = said.trim().chars().take(SHOWN).collect();
    if !said.is_empty() {
        text.push_str(before);
        text.extend(
            said.chars()
                .map(|char| if char.is_control() { '?' } else { char }),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_port_is_left_out() {
        for (addr, expected) in [
            ("ws://example.org/mesh", "ws://example.org/mesh"),
            ("wss://example.org", "wss://example.org/"),
            ("wss://example.org:80/a?b=c", "wss://example.org:80/a?b=c"),
            ("ws://[fe80::1%eth0]:8080", "ws://[fe80::1]:8080/"),
        ] {
            let addr: Address = addr.parse().unwrap();
            let host = addr.host().split('%').next().unwrap();
            assert_eq!(uri(&addr, host), expected);
        }
    }

    #[test]
    fn what_a_server_answers_is_said_in_one_line() {
        let answer = |status: u16, location: &str, body: &str| {
            let answer = Response::builder()
                .status(status)
                .header(LOCATION, location);
            other_answer(&answer.body(Some(body.into())).unwrap())
        };
        let said = "the server answers a request for a WebSocket with ";
        for (text, expected) in [
            (answer(404, "", ""), "404 Not Found"),
            (
                answer(503, "", "no place\u{1b}[2J for another peer\r\nmore"),
                "503 Service Unavailable: no place?[2J for another peer",
            ),
            (
                answer(301, "https://example.org/", "moved"),
                "301 Moved Permanently, and refers to https://example.org/",
            ),
        ] {
            assert_eq!(text.strip_prefix(said), Some(expected));
        }
        assert!(answer(403, "", &"x".repeat(10_000)).len() < 200);
    }
}
