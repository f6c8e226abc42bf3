//! What happens on a mesh: peers that come and go, errors, and what was lost.

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::sync::broadcast;
use tokio_util::sync::ReusableBoxFuture;

use crate::error::Error;
use crate::node::peer::Peer;
pub use crate::node::throttle::{LINES_PER_NODE, LINES_PER_SOURCE};
pub use crate::reason::{DisconnectReason, DropReason};
pub use crate::text::Escaped;

/// How many events a slow reader may be behind before it misses the oldest.
pub const EVENT_CAPACITY: usize = 1024;

/// Something that happened on a mesh. Cheap to clone.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The node accepts connections at this address.
    Listening {
        /// The address, with the port that was really taken.
        addr: SocketAddr,
    },
    /// A peer is connected: it has introduced itself and can be written to.
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
    /// Something failed: a frame that could not be handled, a dial, a handshake.
    ///
    /// At most [`LINES_PER_SOURCE`] such events come in a minute about those at one address, and
    /// [`LINES_PER_NODE`] about all; the same goes for the lines of the log that are about peers.
    /// An error for which [`is_left_out`](Error::is_left_out) is true says how many more there
    /// were.
    Error {
        /// The peer it is about, where there is one.
        peer: Option<Peer>,
        /// What failed.
        error: Arc<Error>,
    },
    /// Frames that were accepted for a peer and will not be written to it.
    ///
    /// At most one such event comes each second for a peer; the frames of all are in their sum.
    Dropped {
        /// The peer that does not get them.
        peer: Peer,
        /// Why.
        reason: DropReason,
        /// How many since the last such event.
        frames: u64,
    },
    /// The reader of the events was too slow, and missed this many.
    Missed(u64),
}

/// The events of a mesh, one after another.
///
/// A reader that falls [`EVENT_CAPACITY`] behind does not hold up the mesh: it misses the oldest,
/// and gets [`Event::Missed`] with their number. The stream ends when the mesh has ended.
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
    /// An event is not lost when the wait is dropped.
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

/// Where events come from: the sending end.
#[derive(Debug)]
pub(crate) struct Sender {
    sender: Mutex<Option<broadcast::Sender<Event>>>,
    /// The first reader's end, kept from the beginning so that it misses nothing.
    first: Mutex<Option<Receiver>>,
}

impl Sender {
    /// Makes the sending end; with `keep`, the first reader gets what came before it.
    ///
    /// What is kept knows peers, and they know where events come from: only for those who
    /// [`end`](Sender::end) this.
    pub(crate) fn new(keep: bool) -> Self {
        let (sender, first) = broadcast::channel(EVENT_CAPACITY);
        Self {
            sender: Mutex::new(Some(sender)),
            first: Mutex::new(keep.then_some(first)),
        }
    }

    /// Tells all readers.
    pub(crate) fn emit(&self, event: Event) {
        if let Some(sender) = &*self.sender.lock().unwrap_or_else(PoisonError::into_inner) {
            // Nobody listening is no failure.
            let _ = sender.send(event);
        }
    }

    /// The events from now on; for the first reader, from the beginning.
    pub(crate) fn subscribe(&self) -> Events {
        let first = self
            .first
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        first.map_or_else(|| self.listen(), Events::new)
    }

    /// The events from now on.
    pub(crate) fn listen(&self) -> Events {
        Events::new(
            match &*self.sender.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(sender) => sender.subscribe(),
                None => broadcast::channel(1).1,
            },
        )
    }

    /// Ends all readers' streams, once they have read what is there.
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
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        for _ in 0..EVENT_CAPACITY + 10 {
            sender.emit(Event::Listening { addr });
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
