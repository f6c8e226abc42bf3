//! Channels: frames between the plugins of two nodes, apart from those for the stack.
//!
//! | file | role |
//! |---|---|
//! | `mod` | the channels that a peer has listed |
//! | `inlet` | what waits for one handler: a decision without clock or lock |
//! | `receive` | calls the handlers with the frames of one peer |
//! | `send` | sends to a peer |

mod inlet;
mod receive;
mod send;

use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use inlet::CHANNEL_INBOX;
use inlet::Inlet;

/// Says that the peer's channel is not known here.
const UNKNOWN: u8 = u8::MAX;

type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The channels that a peer and this node both know.
pub(crate) struct PeerChannels {
    /// For each channel in the peer's list its index among those of this node, or [`UNKNOWN`].
    theirs: Box<[u8]>,
    /// Whether a handler runs, or a frame waits for one.
    busy: AtomicBool,
    received: Mutex<Received>,
}

/// What was received on the channels of a peer, and is not handled.
struct Received {
    /// One for each channel of this node.
    inlets: Box<[Inlet<BoxFuture>]>,
    /// Whether the peer has left.
    closed: bool,
}

impl PeerChannels {
    /// Returns `None` if no name is in both lists.
    pub(crate) fn new(own: &[&str], listed: &[String]) -> Option<Box<Self>> {
        let index = |name: &String| {
            let own = own.iter().position(|own| own == name);
            own.and_then(|own| u8::try_from(own).ok())
                .unwrap_or(UNKNOWN)
        };
        let theirs: Box<[u8]> = listed.iter().map(index).collect();
        theirs.iter().any(|own| *own != UNKNOWN).then(|| {
            Box::new(Self {
                theirs,
                busy: AtomicBool::new(false),
                received: Mutex::new(Received {
                    inlets: own.iter().map(|_| Inlet::default()).collect(),
                    closed: false,
                }),
            })
        })
    }

    /// Returns the channel of this node that the peer has at `index`.
    fn own(&self, index: u8) -> Option<usize> {
        let own = *self.theirs.get(usize::from(index))?;
        (own != UNKNOWN).then_some(usize::from(own))
    }

    /// Returns whether the peer has listed this node's channel `own`.
    fn lists(&self, own: usize) -> bool {
        self.theirs.iter().any(|index| usize::from(*index) == own)
    }

    fn received(&self) -> MutexGuard<'_, Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_that_of_the_senders_list() {
        let own = ["a/1", "b/1", "c/1"];
        let listed = ["c/1", "x/1", "a/1"].map(str::to_owned);
        let peer = PeerChannels::new(&own, &listed).expect("common channels");
        assert_eq!(
            [0, 1, 2, 3, 255].map(|index| peer.own(index)),
            [Some(2), None, Some(0), None, None]
        );
        assert_eq!([0, 1, 2].map(|own| peer.lists(own)), [true, false, true]);
        assert!(PeerChannels::new(&own, &["x/1".to_owned()]).is_none());
        assert!(PeerChannels::new(&[], &listed).is_none());
    }
}
