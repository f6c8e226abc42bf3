use std::error::Error as StdError;
use std::{fmt, io};

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use super::verify::Refusal;
use crate::transport::foreign::{Spoken, spoken};
use crate::transport::identity::PublicKey;

/// The error of a failed TLS handshake. Its text says what to do; the cause, if there is one, is
/// its [`source`](StdError::source).
#[derive(Debug)]
pub struct TlsError(TlsErrorKind);

#[derive(Debug)]
pub(super) enum TlsErrorKind {
    WrongKey {
        expected: PublicKey,
        proven: PublicKey,
    },
    NotAllowed(PublicKey),
    Refused(PublicKey),
    /// What is spoken in place of TLS, as far as it is known.
    Plaintext(Option<Spoken>),
    Protocol,
    NotAKey,
    Handshake(Error),
    Io(io::Error),
}

impl TlsError {
    /// Converts a handshake error, on the side of the node that has the key `own`.
    pub(super) fn from_handshake(error: io::Error, own: PublicKey) -> Self {
        let Some(cause) = tls_cause(&error) else {
            return Self(TlsErrorKind::Io(error));
        };
        Self(match cause {
            Error::InvalidCertificate(CertificateError::Other(other)) => {
                match other.0.downcast_ref::<Refusal>() {
                    Some(Refusal::WrongKey { expected, proven }) => TlsErrorKind::WrongKey {
                        expected: *expected,
                        proven: *proven,
                    },
                    Some(Refusal::NotAllowed(key)) => TlsErrorKind::NotAllowed(*key),
                    Some(Refusal::NotAKey) => TlsErrorKind::NotAKey,
                    None => TlsErrorKind::Handshake(cause.clone()),
                }
            }
            Error::InvalidMessage(
                InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
            ) => TlsErrorKind::Plaintext(None),
            Error::NoApplicationProtocol
            | Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
                TlsErrorKind::Protocol
            }
            _ if is_refusal(cause) => TlsErrorKind::Refused(own),
            _ => TlsErrorKind::Handshake(cause.clone()),
        })
    }

    /// Replaces a read error by a [`TlsError`] if the peer refused the key `own`.
    pub(super) fn explain(error: io::Error, own: PublicKey) -> io::Error {
        match tls_cause(&error) {
            Some(cause) if is_refusal(cause) => Self(TlsErrorKind::Refused(own)).into(),
            _ => error,
        }
    }

    /// Adds what the peer speaks, if it does not speak TLS, from the first bytes that it has sent.
    pub(crate) fn hearing(self, first: &[u8]) -> Self {
        match self.0 {
            TlsErrorKind::Plaintext(_) => Self(match spoken(first) {
                // It does, and what came behind its greeting is damaged.
                Some(Spoken::Tls) => {
                    TlsErrorKind::Handshake(InvalidMessage::InvalidContentType.into())
                }
                spoken => TlsErrorKind::Plaintext(spoken),
            }),
            _ => self,
        }
    }

    pub(super) fn not_allowed(key: PublicKey) -> Self {
        Self(TlsErrorKind::NotAllowed(key))
    }

    pub(super) fn protocol() -> Self {
        Self(TlsErrorKind::Protocol)
    }

    pub(super) fn not_a_key() -> Self {
        Self(TlsErrorKind::NotAKey)
    }

    /// Returns whether the peer proved another key than the expected one.
    #[must_use]
    pub fn is_wrong_key(&self) -> bool {
        matches!(self.0, TlsErrorKind::WrongKey { .. })
    }

    /// Returns whether the peer's key is not on this node's allow list.
    #[must_use]
    pub fn is_not_allowed(&self) -> bool {
        matches!(self.0, TlsErrorKind::NotAllowed(_))
    }

    /// Returns whether the peer rejected this node's key.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self.0, TlsErrorKind::Refused(_))
    }

    /// Returns whether the peer sent something other than TLS.
    #[must_use]
    pub fn is_plaintext(&self) -> bool {
        matches!(self.0, TlsErrorKind::Plaintext(_))
    }

    /// Returns whether the peer speaks another protocol than coalescent over TLS.
    #[must_use]
    pub fn is_protocol(&self) -> bool {
        matches!(self.0, TlsErrorKind::Protocol)
    }

    /// Returns whether the TLS handshake failed for another reason: an older version, no key, a
    /// certificate instead of a key, an invalid signature, an alert.
    #[must_use]
    pub fn is_handshake(&self) -> bool {
        matches!(self.0, TlsErrorKind::Handshake(_) | TlsErrorKind::NotAKey)
    }

    /// Returns whether the connection failed or ended during the handshake.
    #[must_use]
    pub fn is_io(&self) -> bool {
        matches!(self.0, TlsErrorKind::Io(_))
    }

    /// Returns the key of the rejected peer; after [`is_wrong_key`](Self::is_wrong_key), the key
    /// that it proved.
    #[must_use]
    pub fn peer(&self) -> Option<PublicKey> {
        match self.0 {
            TlsErrorKind::WrongKey { proven, .. } => Some(proven),
            TlsErrorKind::NotAllowed(key) => Some(key),
            _ => None,
        }
    }
}

fn tls_cause(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// Returns whether the cause is an alert by which a peer rejects a key that was proven.
fn is_refusal(cause: &Error) -> bool {
    matches!(
        cause,
        Error::AlertReceived(AlertDescription::CertificateUnknown | AlertDescription::AccessDenied)
    )
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            TlsErrorKind::WrongKey { expected, proven } => write!(
                f,
                "the peer is {proven}, not {expected}: check the id and address of this peer; \
                 if both are right, somebody answers in its place"
            ),
            TlsErrorKind::NotAllowed(key) => write!(
                f,
                "the peer {key} is not allowed: add its id to the allow list to accept it"
            ),
            TlsErrorKind::Refused(own) => write!(
                f,
                "the peer refused this node's key: have it allow the id {own}, \
                 and check which id it expects here"
            ),
            TlsErrorKind::Plaintext(spoken) => f.write_str(
                spoken
                    .and_then(Spoken::to_tls)
                    .unwrap_or("the peer does not speak TLS: give both nodes an identity, or neither"),
            ),
            TlsErrorKind::Protocol => f.write_str(
                "the peer speaks TLS but not `coalescent/1` in it: check the address, \
                 and that both nodes run compatible versions",
            ),
            TlsErrorKind::NotAKey => f.write_str(
                "the peer does not show one ed25519 public key: \
                 check that it is a coalescent node with an identity",
            ),
            TlsErrorKind::Handshake(_) => f.write_str(
                "the TLS handshake failed, which takes TLS 1.3 and an ed25519 key as a raw public key \
                 on both sides",
            ),
            TlsErrorKind::Io(_) => f.write_str(
                "the connection broke in the TLS handshake, so check that the peer is a coalescent \
                 node with an identity",
            ),
        }
    }
}

impl StdError for TlsError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0 {
            TlsErrorKind::Handshake(cause) => Some(cause),
            TlsErrorKind::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        let kind = match &error.0 {
            TlsErrorKind::WrongKey { .. }
            | TlsErrorKind::NotAllowed(_)
            | TlsErrorKind::Refused(_) => io::ErrorKind::PermissionDenied,
            TlsErrorKind::Plaintext(_)
            | TlsErrorKind::Protocol
            | TlsErrorKind::NotAKey
            | TlsErrorKind::Handshake(_) => io::ErrorKind::InvalidData,
            TlsErrorKind::Io(error) => error.kind(),
        };
        Self::new(kind, error)
    }
}
