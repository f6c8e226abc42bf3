//! Offering a payload to one peer, which may drop it.

use bytes::Bytes;
use tokio::time::Instant;
use tokio::time::timeout_at;

use super::Peer;
use super::seat::Role;
use crate::outbox::{Flow, Refused};
use crate::reason::DropReason;
use crate::wire::Kind;

impl Peer {
    /// Queues `payload` for this peer alone, and returns whether it was queued: it waits and drops
    /// as a relay does.
    ///
    /// The peer takes it for what this node says itself. Who passes on what others made so answers
    /// for it: what is no message counts against this node.
    ///
    /// If there is no room, it waits: with [`Flow::Wait`] until there is, with [`Flow::Drop`] for
    /// [`Config::relay_grace`](crate::Config::relay_grace), or not at all if the peer was slow
    /// before. A payload that is not queued, for whatever reason, is dropped and counted, and
    /// reported as [`Event::Dropped`](crate::Event::Dropped).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is done, nothing was queued, and nothing is counted.
    pub async fn offer(&self, payload: impl Into<Bytes>, flow: Flow) -> bool {
        let payload = payload.into();
        let len = payload.len();
        let kind = if self.wire().has_handshake() {
            Kind::Data
        } else {
            Kind::Plain
        };
        let chunk = match self.encode_own(kind, payload) {
            Ok(chunk) => chunk,
            Err(_) => {
                let large = self.max_payload().is_some_and(|max| len > max);
                self.dropped(
                    if large {
                        DropReason::TooLarge
                    } else {
                        DropReason::Unencodable
                    },
                    1,
                );
                return false;
            }
        };
        if self.stage().role() == Role::Contact {
            self.dropped(DropReason::Disconnected, 1);
            return false;
        }
        let chunks = [chunk];
        let outbox = self.outbox();
        let until = Instant::now() + self.0.node.config().relay_grace;
        let pushed = match outbox.try_push(&chunks) {
            Ok(_) => Ok(()),
            Err(Refused::Full) if flow == Flow::Drop && outbox.is_slow() => Err(Refused::Full),
            Err(Refused::Full) => {
                let mut progress = 0;
                let push = outbox.push(&chunks, &mut progress);
                match flow {
                    Flow::Wait => push.await,
                    Flow::Drop => timeout_at(until, push).await.unwrap_or_else(|_| {
                        outbox.mark_slow();
                        Err(Refused::Full)
                    }),
                }
            }
            Err(Refused::Closed) => Err(Refused::Closed),
        };
        match pushed {
            Ok(()) => return true,
            Err(Refused::Full) => self.dropped(DropReason::Full, 1),
            Err(Refused::Closed) => self.dropped(DropReason::Disconnected, 1),
        }
        false
    }
}
