//! Events: peers that connect and disconnect, errors, and frames that were lost.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

/// How many events are kept for the first reader, until there is one: 64.
pub const EARLY_EVENTS: usize = 64;

/// When so many are kept, those of peers that have come and gone, and of discovered addresses, are
/// left out, oldest first: events keep the peers that they name.
pub const EARLY_GONE: usize = 8;

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
        /// What failed. Its [`report`](Error::report) tells all, on one line.
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

impl Event {
    /// Returns the peer that the event keeps.
    fn peer(&self) -> Option<&Peer> {
        match self {
            Self::PeerConnected { peer }
            | Self::PeerDisconnected { peer, .. }
            | Self::Dropped { peer, .. } => Some(peer),
            Self::Error { peer, .. } => peer.as_ref(),
            Self::Listening { .. }
            | Self::Discovered { .. }
            | Self::Banned { .. }
            | Self::Missed(_) => None,
        }
    }
}

/// A stream of the events of a mesh.
///
/// A reader that falls [`EVENT_CAPACITY`] events behind does not hold back the mesh: it misses the
/// oldest, and gets [`Event::Missed`] with their number. So does the first reader, of those before
/// the last [`EARLY_EVENTS`] before it, and of peers that have come and gone by then, and addresses
/// that were discovered, if there are more than [`EARLY_GONE`]. The stream ends when the mesh has
/// ended.
///
/// ```
/// use coalescent::Event;
///
/// # use coalescent::{App, transport::Memory};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let network = Memory::new();
/// # let alice = App::new().transport(network.clone()).listen("alice:1").await?;
/// # let bob = App::new().transport(network).start().await?;
/// let mut events = alice.events();
/// bob.connect("alice:1").await?;
/// bob.shutdown().await;
///
/// let mut told = Vec::new();
/// while told.len() < 2 {
///     match events.next().await.ok_or("the mesh has ended")? {
///         Event::PeerConnected { peer } => told.push(format!("{} is here", peer.id())),
///         Event::PeerDisconnected { peer, reason } => {
///             told.push(format!("{}: {reason}", peer.id()));
///         }
///         _ => {}
///     }
/// }
/// assert_eq!(told[0], format!("{} is here", bob.id()));
/// assert_eq!(told[1], format!("{}: the peer left: shutting down", bob.id()));
/// # Ok(())
/// # }
/// ```
pub struct Events {
    /// What comes before the rest.
    early: VecDeque<Event>,
    next: ReusableBoxFuture<'static, (Result<Shared, broadcast::error::RecvError>, Receiver)>,
}

type Receiver = broadcast::Receiver<Shared>;

/// An event on its way to all readers. By a pointer, since room for as many as a reader may fall
/// behind is taken at once.
type Shared = Arc<Event>;

async fn receive(
    mut receiver: Receiver,
) -> (Result<Shared, broadcast::error::RecvError>, Receiver) {
    (receiver.recv().await, receiver)
}

impl Events {
    fn new(receiver: Receiver) -> Self {
        Self {
            early: VecDeque::new(),
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
        if let Some(event) = self.early.pop_front() {
            return Poll::Ready(Some(event));
        }
        let (result, receiver) = std::task::ready!(self.next.poll(cx));
        self.next.set(receive(receiver));
        Poll::Ready(match result {
            Ok(event) => Some(Arc::unwrap_or_clone(event)),
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
pub(crate) struct Sender(Mutex<Sending>);

#[derive(Debug)]
struct Sending {
    /// What is kept for the first reader, if it has not come.
    early: Option<Early>,
    /// Made for the first reader: it takes its room at once, some 32 KiB.
    sender: Option<broadcast::Sender<Shared>>,
    ended: bool,
}

/// The events before the first reader.
#[derive(Debug, Default)]
struct Early {
    events: VecDeque<Event>,
    missed: u64,
}

impl Early {
    /// Adds an event, and returns those that are missed for it.
    fn push(&mut self, event: Event) -> Vec<Event> {
        self.events.push_back(event);
        let mut missed = Vec::new();
        if self.events.len() > EARLY_GONE {
            let past = self.events.iter().position(|event| {
                matches!(
                    event,
                    Event::PeerDisconnected { .. } | Event::Discovered { .. }
                )
            });
            if let Some(past) = past.and_then(|past| self.events.remove(past)) {
                if let Some(gone) = past.peer() {
                    self.events.retain(|event| {
                        let of_it = event.peer() == Some(gone);
                        missed.extend(of_it.then(|| event.clone()));
                        !of_it
                    });
                }
                missed.push(past);
            }
        }
        if self.events.len() > EARLY_EVENTS {
            missed.extend(self.events.pop_front());
        }
        self.missed += missed.len() as u64;
        missed
    }

    fn into_events(self) -> VecDeque<Event> {
        let mut events = self.events;
        if self.missed > 0 {
            events.push_front(Event::Missed(self.missed));
        }
        events
    }
}

impl Sending {
    /// Returns a receiver of the events from now on.
    fn receiver(&mut self) -> Receiver {
        if self.ended {
            return broadcast::channel(1).1;
        }
        match &self.sender {
            Some(sender) => sender.subscribe(),
            None => {
                let (sender, receiver) = broadcast::channel(EVENT_CAPACITY);
                self.sender = Some(sender);
                receiver
            }
        }
    }
}

impl Sender {
    /// Creates the sending end. With `keep` the first reader also gets the last events before it.
    ///
    /// Kept events own peers, and peers own this: whoever passes `keep` must call
    /// [`end`](Sender::end).
    pub(crate) fn new(keep: bool) -> Self {
        Self(Mutex::new(Sending {
            early: keep.then(Early::default),
            sender: None,
            ended: false,
        }))
    }

    fn sending(&self) -> MutexGuard<'_, Sending> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends an event to all readers.
    pub(crate) fn emit(&self, event: Event) {
        let mut sending = self.sending();
        if sending.ended {
            return;
        }
        if let Some(sender) = &sending.sender {
            // It is no error that nobody listens.
            let _ = sender.send(Arc::new(event.clone()));
        }
        let early = sending.early.as_mut();
        let missed = early.map(|early| early.push(event));
        // It may own the last handle to a peer, and that what a plugin has put there.
        drop(sending);
        drop(missed);
    }

    /// Returns the events from now on. The first reader gets the last ones before it too.
    pub(crate) fn subscribe(&self) -> Events {
        let mut sending = self.sending();
        let mut events = Events::new(sending.receiver());
        events.early = sending
            .early
            .take()
            .map(Early::into_events)
            .unwrap_or_default();
        events
    }

    /// Returns the events from now on.
    pub(crate) fn listen(&self) -> Events {
        Events::new(self.sending().receiver())
    }

    /// Ends the streams of all readers, once they have read the events that are there.
    pub(crate) fn end(&self) {
        let mut sending = self.sending();
        sending.ended = true;
        let sender = sending.sender.take();
        let early = sending.early.take();
        // They own peers, whose end may lead here.
        drop(sending);
        drop((sender, early));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_reader_gets_the_last_events_before_it() {
        let sender = Sender::new(true);
        let addr = |port: u16| -> Address { format!("127.0.0.1:{port}").parse().unwrap() };
        for port in 1..=EARLY_EVENTS as u16 + 2 {
            sender.emit(Event::Listening { addr: addr(port) });
        }
        let mut late = sender.listen();
        let mut events = sender.subscribe();
        sender.emit(Event::Listening { addr: addr(1000) });
        assert!(matches!(events.next().await, Some(Event::Missed(2))));
        let mut ports = Vec::new();
        sender.end();
        while let Some(Event::Listening { addr }) = events.next().await {
            ports.push(addr.port());
        }
        let expected: Vec<_> = (3..=EARLY_EVENTS as u16 + 2).chain([1000]).collect();
        assert_eq!(ports, expected);
        assert!(
            matches!(late.next().await, Some(Event::Listening { addr }) if addr.port() == 1000)
        );
        assert!(late.next().await.is_none());
        assert!(sender.subscribe().next().await.is_none());
    }

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
