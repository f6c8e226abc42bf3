//! Who has said a message.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::PublicKey;

/// The proven author of a message: the owner of a key has signed it.
///
/// A layer that checks signatures attaches it to the frame; see
/// [`Frame::author`](crate::Frame::author). With relays between, the author is seldom the
/// [peer](crate::Frame::peer) that passed the message on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Author {
    key: PublicKey,
    at: u64,
}

impl Author {
    /// Creates the author that owns `key` and says to have signed at `at`, in milliseconds since
    /// 1970. This proves nothing: a layer calls it after it has verified the signature.
    #[must_use]
    pub fn new(key: PublicKey, at: u64) -> Self {
        Self { key, at }
    }

    /// Returns the key that the message is signed with.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Returns when the message was signed, in milliseconds since 1970, by the author's clock.
    #[must_use]
    pub fn at_millis(&self) -> u64 {
        self.at
    }

    /// Returns when the message was signed, by the author's clock; 1970 for a time that this
    /// system cannot represent.
    #[must_use]
    pub fn at(&self) -> SystemTime {
        let since = Duration::from_millis(self.at);
        UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
    }
}
