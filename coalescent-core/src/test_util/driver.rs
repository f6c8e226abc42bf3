//! Calling a stack as a connection does, but without a connection.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::time::Instant;
use tower_service::Service;

use crate::frame::Frame;
use crate::frame::call::CallScope;
use crate::frame::in_flight::{InFlight, ReadBatch};
use crate::node::peer::Peer;
use crate::stack::reply::Reply;
use crate::wire::{Head, Kind};

/// A driver that calls a stack with the frames of one peer as its connection does: waits for
/// readiness, calls the stack, and polls the call once.
///
/// Use it in benchmarks, and in tests that count allocations: it creates frames and stores calls as
/// the connection does, without allocating. It needs no runtime.
///
/// ```
/// use bytes::Bytes;
/// use coalescent::test_util::{self, Driver};
/// use coalescent::{Config, Peers, wire::Kind};
///
/// let peers = Peers::new(Config::default());
/// let mut driver = Driver::new(&test_util::peer(&peers), peers.inbox());
///
/// let reply = driver.call(Kind::Data, Bytes::from_static(b"beep"));
///
/// assert!(reply.is_ok_and(|reply| reply.is_none()));
/// assert_eq!(driver.relayed(), 0);
/// ```
pub struct Driver<S: Service<Frame>> {
    in_flight: Arc<InFlight>,
    /// The read batch of the frame; reused unless a frame still references it.
    read_batch: Arc<ReadBatch>,
    staged: VecDeque<Frame>,
    stack: S,
    /// The memory that is reused for each call.
    call: Pin<Box<Option<S::Future>>>,
    seq: u64,
    relayed: u64,
}

impl<S: Service<Frame, Response = Reply>> Driver<S> {
    /// Creates a driver that calls `stack` with frames of `peer`, one after another.
    #[must_use]
    pub fn new(peer: &Peer, stack: S) -> Self {
        let in_flight = Arc::new(InFlight::new(peer.clone(), 1));
        Self {
            read_batch: Arc::new(ReadBatch {
                in_flight: Arc::clone(&in_flight),
                bytes: Bytes::new(),
                buffer: 0,
                buffer_len: 0,
                at: Instant::now(),
            }),
            in_flight,
            staged: VecDeque::new(),
            stack,
            call: Box::pin(None),
            seq: 0,
            relayed: 0,
        }
    }

    /// Calls the stack with one frame. Its ttl is that of the [`Config`](crate::Config) of the
    /// peer's node.
    ///
    /// # Errors
    ///
    /// Returns the errors of the stack.
    ///
    /// # Panics
    ///
    /// Panics if the stack is not ready immediately, or does not answer immediately.
    pub fn call(&mut self, kind: Kind, payload: Bytes) -> Result<Reply, S::Error> {
        let mut cx = Context::from_waker(Waker::noop());
        match self.stack.poll_ready(&mut cx) {
            Poll::Ready(ready) => ready?,
            Poll::Pending => panic!("the stack is not ready at once"),
        }
        self.seq += 1;
        self.in_flight.open(0, self.seq);
        let payload = self.arrive(payload);
        let head = Head::new(kind, self.in_flight.peer().node().config().ttl);
        let scope = CallScope::open(self.in_flight.place(), &mut self.staged);
        let read_batch = scope.begin(self.seq, false, &self.read_batch);
        let frame = Frame::new(read_batch, &head, payload, 0, self.seq);
        self.call.set(Some(self.stack.call(frame)));
        let polled = match self.call.as_mut().as_pin_mut() {
            Some(call) => call.poll(&mut cx),
            None => Poll::Pending,
        };
        self.call.set(None);
        let outcome = scope.end();
        let elsewhere = if outcome.is_over() && self.in_flight.is_untouched(0, self.seq) {
            self.in_flight.shut(0, self.seq);
            None
        } else {
            self.in_flight.close(0, self.seq)
        };
        if outcome.flow().is_some() || elsewhere.is_some() {
            self.relayed += 1;
        }
        drop(scope);
        self.staged.clear();
        let delivered = u64::from(outcome.discarded() + outcome.whole());
        self.in_flight.peer().counters().add_delivered(delivered);
        match polled {
            Poll::Ready(result) => result,
            Poll::Pending => panic!("the stack does not answer at once"),
        }
    }

    /// Makes `payload` the contents of the read batch, and returns its range.
    fn arrive(&mut self, payload: Bytes) -> Range<usize> {
        let place = 0..payload.len();
        match Arc::get_mut(&mut self.read_batch) {
            Some(read_batch) => read_batch.bytes = payload,
            None => {
                self.read_batch = Arc::new(ReadBatch {
                    in_flight: Arc::clone(&self.in_flight),
                    bytes: payload,
                    buffer: self.seq,
                    buffer_len: 0,
                    at: self.read_batch.at,
                });
            }
        }
        place
    }

    /// Returns how many frames the stack has asked to relay during its calls.
    #[must_use]
    pub fn relayed(&self) -> u64 {
        self.relayed
    }
}

impl<S: Service<Frame>> fmt::Debug for Driver<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("peer", self.in_flight.peer())
            .field("called", &self.seq)
            .field("relayed", &self.relayed)
            .finish_non_exhaustive()
    }
}
