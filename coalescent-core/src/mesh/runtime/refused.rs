//! Why an inbound connection is refused.

use std::fmt;

/// The reason why a connection was refused, with the limit it met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(super) reason: Reason,
    pub(super) limit: usize,
}

/// Which limit a connection met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum Reason {
    /// `max_inbound` peers are connected.
    Inbound,
    /// `max_per_ip` connections come from its address, or of its key.
    PerIp,
    /// `max_pending` connections are in their handshake.
    Pending,
    /// `max_contacts` contacts are connected.
    Contacts,
    /// It was evicted for a newcomer while in its handshake.
    Evicted,
}

impl Refused {
    /// Returns the limit that was met.
    pub(crate) fn reason(&self) -> Reason {
        self.reason
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = self.limit;
        match self.reason {
            Reason::Inbound => {
                write!(
                    f,
                    "{limit} inbound peers are connected; raise max_inbound to take more"
                )
            }
            Reason::Contacts => {
                write!(
                    f,
                    "{limit} inbound contacts are connected; raise max_contacts to take more"
                )
            }
            Reason::PerIp => {
                write!(
                    f,
                    "{limit} connections from one address or key; raise max_per_ip to take more"
                )
            }
            Reason::Pending => {
                write!(
                    f,
                    "{limit} handshakes under way; raise max_pending to take more"
                )
            }
            Reason::Evicted => write!(
                f,
                "gave way to a newcomer, as {limit} handshakes were under way; raise \
                 max_pending to take more"
            ),
        }
    }
}

impl std::error::Error for Refused {}
