//! Events: peers that connect and disconnect, errors, and frames that were lost.

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use tokio::sync::broadcast;
use tokio_util::sync::ReusableBoxFuture;

use crate::error::Error;
use crate::node::peer::{Peer, PeerId};
use crate::node::suggestion::Source;
pub use crate::node::throttle::{LINES_PER_NODE, LINES_PER_SOURCE};
pub use crate::reason::{DisconnectReason, DropReason};
pub use crate::text::Escaped;
use crate::transport::address::Address;

/// How many events a slow reader may fall behind before it misses the oldest.
pub const EVENT_CAPACITY: usize = 1024;

/// Something that happened on a mesh. Cheap to clone.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The node accepts connections at this address.
    Listening {
        /// The address with its scheme, with the port that was really taken.
        addr: Address,
    },
    /// A peer has connected: it has introduced itself and can be written to.
    PeerConnected {
        /// The peer.
        peer: Peer,
    },
    /// A peer is no longer connected.
    PeerDisconnected {
        /// The peer.
        peer: Peer,
        /// Why.
        reason: DisconnectReason,
    },
    /// An address was [suggested](crate::Mesh::suggest) that this node did not know, and may dial.
    ///
    /// It is told once for each address, and not for seeds. Only the last
    /// [`DISCOVERED_MAX`](crate::DISCOVERED_MAX) addresses are remembered for that: one that comes
    /// again after so many others is told again.
    Discovered {
        /// The address.
        addr: Address,
        /// Where it comes from.
        source: Source,
    },
    /// A peer was disconnected because of its faults, and banned for a while; or the application
    /// has [banned](crate::Mesh::ban) somebody. It is told once for each ban, not for those that
    /// come back meanwhile and are refused.
    Banned {
        /// The peer, or the banned key. `None` if the application has banned an address.
        peer: Option<PeerId>,
        /// The address of the peer, or the banned one, with port 0. `None` if it is not known, or
        /// if the application has banned a key.
        addr: Option<SocketAddr>,
        /// Why, on one line. It may quote the peer.
        reason: String,
        /// For how long. Zero for who is exempt, and only disconnected: one at a loopback address
        /// that has proven no key, and one on the [allow list](crate::Mesh::allow).
        duration: Duration,
    },
    /// Something failed: a frame that could not be handled, a dial, a handshake.
    ///
    /// At most [`LINES_PER_SOURCE`] such events are told in a minute about one address, and
    /// [`LINES_PER_NODE`] about all; the log lines about peers have the same limits. An error for
    /// which [`is_left_out`](Error::is_left_out) is true says how many more there were.
    Error {
        /// The peer it is about, if any.
        peer: Option<Peer>,
        /// What failed.
        error: Arc<Error>,
    },
    /// Frames that were accepted for a peer and will not be written to it.
    ///
    /// At most one such event is told each second for a peer. The sum of `frames` over all events
    /// is the number of dropped frames.
    Dropped {
        /// The peer that does not get the frames.
        peer: Peer,
        /// Why.
        reason: DropReason,
        /// The number of frames since the last such event.
        frames: u64,
    },
    /// The reader of the events was too slow, and missed this many of them.
    Missed(u64),
}

/// A stream of the events of a mesh.
///
/// A reader that falls [`EVENT_CAPACITY`] events behind does not hold back the mesh: it misses the
/// oldest, and gets [`Event::Missed`] with their number. The stream ends when the mesh has ended.
pub struct Events {
    next: ReusableBoxFuture<'static, (Result<Event, broadcast::error::RecvError>, Receiver)>,
}

type Receiver = broadcast::Receiver<Event>;

async fn receive(mut receiver: Receiver) -> (Result<Event, broadcast::error::RecvError>, Receiver) {
    (receiver.recv().await, receiver)
}

impl Events {
    fn new(receiver: Receiver) -> Self {
        Self {
            next: ReusableBoxFuture::new(receive(receiver)),
        }
    }

    /// Waits for the next event; `None` when the mesh has ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no event is lost.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let (result, receiver) = std::task::ready!(self.next.poll(cx));
        self.next.set(receive(receiver));
        Poll::Ready(match result {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Event::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        })
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

/// The sending end of the events.
#[derive(Debug)]
pub(crate) struct Sender {
    sender: Mutex<Option<broadcast::Sender<Event>>>,
    /// The receiver of the first reader, kept from the beginning so that it misses nothing.
    first: Mutex<Option<Receiver>>,
}

impl Sender {
    /// Creates the sending end. With `keep` the first reader also gets the events before it.
    ///
    /// Kept events own peers, and peers own this: whoever passes `keep` must call
    /// [`end`](Sender::end).
    pub(crate) fn new(keep: bool) -> Self {
        let (sender, first) = broadcast::channel(EVENT_CAPACITY);
        Self {
            sender: Mutex::new(Some(sender)),
            first: Mutex::new(keep.then_some(first)),
        }
    }

    /// Sends an event to all readers.
    pub(crate) fn emit(&self, event: Event) {
        if let Some(sender) = &*self.sender.lock().unwrap_or_else(PoisonError::into_inner) {
            // It is no error that nobody listens.
            let _ = sender.send(event);
        }
    }

    /// Returns the events from now on. The first reader gets them from the beginning.
    pub(crate) fn subscribe(&self) -> Events {
        let first = self
            .first
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        first.map_or_else(|| self.listen(), Events::new)
    }

    /// Returns the events from now on.
    pub(crate) fn listen(&self) -> Events {
        Events::new(
            match &*self.sender.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(sender) => sender.subscribe(),
                None => broadcast::channel(1).1,
            },
        )
    }

    /// Ends the streams of all readers, once they have read the events that are there.
    pub(crate) fn end(&self) {
        self.sender
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        self.first
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_reader_learns_what_it_missed() {
        let sender = Sender::new(true);
        let mut events = sender.subscribe();
        let addr: Address = "127.0.0.1:1".parse().expect("an address");
        for _ in 0..EVENT_CAPACITY + 10 {
            sender.emit(Event::Listening { addr: addr.clone() });
        }
        assert!(matches!(events.next().await, Some(Event::Missed(10))));
        assert!(matches!(events.next().await, Some(Event::Listening { .. })));
        sender.end();
        let mut rest = 0;
        while events.next().await.is_some() {
            rest += 1;
        }
        assert_eq!(rest, EVENT_CAPACITY - 1);
    }
}
