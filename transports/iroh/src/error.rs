//! Why a dial failed, in one line.

use std::io::{self, ErrorKind};

use iroh::EndpointAddr;
use iroh::endpoint::{ConnectWithOptsError, ConnectingError, ConnectionError, TransportErrorCode};

/// The errors of the steps of a dial.
#[derive(Debug)]
pub(crate) enum DialError {
    Start(ConnectWithOptsError),
    Handshake(ConnectingError),
    Connection(ConnectionError),
    Io(io::Error),
    Silence,
}

impl From<ConnectWithOptsError> for DialError {
    fn from(error: ConnectWithOptsError) -> Self {
        Self::Start(error)
    }
}

impl From<ConnectingError> for DialError {
    fn from(error: ConnectingError) -> Self {
        match error {
            ConnectingError::ConnectionError { source, .. } => Self::Connection(source),
            error => Self::Handshake(error),
        }
    }
}

impl From<ConnectionError> for DialError {
    fn from(error: ConnectionError) -> Self {
        Self::Connection(error)
    }
}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl DialError {
    /// Returns the error of a dial to `addr` with a text that says what to do about it, or an error
    /// of iroh with its causes as sources.
    pub(crate) fn explain(self, addr: &EndpointAddr) -> io::Error {
        let (kind, text) = match self {
            Self::Start(ConnectWithOptsError::NoAddress { .. }) => (
                ErrorKind::NotFound,
                "nothing says where this peer is: add ?addr=IP:PORT or ?relay=URL to its address, \
                 or give the endpoint an address lookup"
                    .to_owned(),
            ),
            Self::Start(ConnectWithOptsError::EndpointClosed { .. }) => {
                (ErrorKind::NotConnected, closed().to_owned())
            }
            Self::Start(error) => return io::Error::other(error),
            Self::Handshake(error) => return io::Error::other(error),
            Self::Connection(ConnectionError::TimedOut) | Self::Silence => {
                (ErrorKind::TimedOut, silence(addr))
            }
            Self::Connection(ConnectionError::TransportError(error)) if is_key(error.code) => (
                ErrorKind::PermissionDenied,
                format!(
                    "{} does not prove this key: somebody else answers there",
                    tried(addr)
                ),
            ),
            Self::Connection(ConnectionError::ConnectionClosed(close))
                if close.error_code == TransportErrorCode::crypto(NO_PROTOCOL) =>
            {
                (
                    ErrorKind::ConnectionRefused,
                    "the peer is there, but does not listen for coalescent".to_owned(),
                )
            }
            Self::Connection(ConnectionError::ConnectionClosed(close))
                if close.error_code == TransportErrorCode::CONNECTION_REFUSED =>
            {
                (
                    ErrorKind::ConnectionRefused,
                    "the peer refuses connections".to_owned(),
                )
            }
            Self::Connection(error) => return error.into(),
            Self::Io(error) => return error,
        };
        io::Error::new(kind, text)
    }
}

/// The text of the error after the endpoint was closed.
pub(crate) fn closed() -> &'static str {
    "the endpoint of iroh is closed"
}

/// TLS's alert of a server that does not speak the protocol of the client.
const NO_PROTOCOL: u8 = 120;

/// Whether a handshake failed since the key was another one: TLS's alerts about certificates.
fn is_key(code: TransportErrorCode) -> bool {
    (42..=51).any(|alert| code == TransportErrorCode::crypto(alert))
}

fn silence(addr: &EndpointAddr) -> String {
    let relays = addr.relay_urls().count();
    let hint = match (relays, addr.ip_addrs().count()) {
        (0, _) => "is it running, and can it be reached from here?",
        (_, 0) => "is the relay up, and the peer connected to it?",
        _ => "is it running, and is the relay up?",
    };
    format!("no answer from {}: {hint}", tried(addr))
}

/// Lists where a peer was looked for.
fn tried(addr: &EndpointAddr) -> String {
    let direct = addr.ip_addrs().map(ToString::to_string);
    let relays = addr.relay_urls().map(|url| format!("the relay {url}"));
    let all: Vec<String> = direct.chain(relays).collect();
    match all.is_empty() {
        true => "where the endpoint's address lookup says".to_owned(),
        false => all.join(" and "),
    }
}
