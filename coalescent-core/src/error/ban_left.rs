//! How long a ban still lasts.

use std::fmt;
use std::time::Duration;

use super::{Error, ErrorKind};

/// The cause of an [own ban](ErrorKind::OwnBan).
#[derive(Clone, Copy, Debug)]
pub(super) struct BanLeft(pub(super) Duration);

impl fmt::Display for BanLeft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs().max(1);
        write!(
            f,
            "it is neither let in nor dialled for {seconds} s yet; `Mesh::unban` ends that"
        )
    }
}

impl std::error::Error for BanLeft {}

impl Error {
    /// Returns for how long this node has banned the other side, if it refused the connection for
    /// that.
    pub(crate) fn ban_left(&self) -> Option<Duration> {
        if self.kind != ErrorKind::OwnBan {
            return None;
        }
        let BanLeft(left) = self.source.as_deref()?.downcast_ref()?;
        Some(*left)
    }
}
