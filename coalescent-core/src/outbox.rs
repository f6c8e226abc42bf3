//! What waits to be written to one peer, bounded in bytes.
//!
//! Frames come in from many places at a time (relays, handlers, the application), already encoded;
//! one connection takes them out in batches and writes them vectored. Small frames are copied
//! together into a chunk, so that they cost neither an entry nor a wake-up each; larger ones, and
//! the runs that relays hand on, are kept as the slices they are, shared with the other peers'
//! outboxes.
//!
//! A frame that takes no bytes on its peer's wire, such as an empty payload on `raw`, has nothing
//! to be written: it is done with, and counted as written, when it is its turn to be taken in.
//!
//! An outbox has one lock, taken once for each push and each write, never across a wait.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::message::codec::SHARED_MAX;
use crate::signal::Signal;
use crate::stats::Counters;
use crate::stats::meter::Gauge;
use crate::wire::Framing;

/// What each entry of an outbox counts for in addition to its bytes: its bookkeeping, and what the
/// allocator keeps beside it.
pub const ENTRY_COST: usize = 128;

/// Chunks up to this many bytes are copied together; larger ones keep their own memory. Room for a
/// kibibyte of the application's, and what a message adds to that.
pub(crate) const COPY_MAX: usize = 1280;

// Messages that share memory are copied here, so that they hardly ever keep the others' memory.
const _: () = assert!(SHARED_MAX <= COPY_MAX);

/// The smallest and the largest buffer that small frames are copied into.
const TAIL_MIN: usize = 512;
const TAIL_MAX: usize = 16 * 1024;

/// How many entries an idle peer keeps room for.
const IDLE_ENTRIES: usize = 8;

/// The size of the buffer for what stands around a large body, where no other is open.
const AROUND: usize = 64;

/// How many entries, and about how many bytes, a connection takes at once.
const BATCH_ENTRIES: usize = 64;
const BATCH_BYTES: usize = 256 * 1024;

/// How a relay treats a peer that has no room for a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Waits, and so holds back the frame's source: nothing is lost. For trees and stars only,
    /// since in a mesh with circles two nodes can wait for one another.
    Wait,
    /// Waits for a short grace ([`Config::relay_grace`](crate::Config::relay_grace)), then drops
    /// the frame for that peer alone, and counts it. Cannot freeze, whatever the mesh looks like.
    Drop,
}

/// Encoded frames on their way to one peer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chunk {
    /// What stands around the body on the wire.
    pub(crate) framing: Framing,
    /// The bytes: a run of frames with all that belongs to them, or one frame's payload.
    pub(crate) body: Bytes,
    /// How many frames this is, by whose they are.
    pub(crate) count: Count,
}

/// Frames by whose they are, for the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) own: u32,
    pub(crate) relayed: u32,
}

impl Count {
    pub(crate) const OWN: Self = Self { own: 1, relayed: 0 };

    pub(crate) fn relayed(frames: u32) -> Self {
        Self {
            own: 0,
            relayed: frames,
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.own = self.own.saturating_add(other.own);
        self.relayed = self.relayed.saturating_add(other.relayed);
    }

    pub(crate) fn total(self) -> u64 {
        u64::from(self.own) + u64::from(self.relayed)
    }
}

impl Chunk {
    /// Frames of this node's own, or relayed ones, that stand in `body` as they go out.
    pub(crate) fn verbatim(body: Bytes, count: Count) -> Self {
        Self {
            body,
            count,
            ..Self::default()
        }
    }

    fn len(&self) -> usize {
        self.framing.prefix().len() + self.body.len() + self.framing.suffix().len()
    }
}

/// One slice on its way to the socket.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) bytes: Bytes,
    pub(crate) count: Count,
    /// Whether a frame ends where this entry does, so that another connection could take over.
    pub(crate) ends_frame: bool,
    cost: usize,
}

#[cfg(all(test, feature = "test-util"))]
impl Entry {
    /// One whole frame.
    pub(crate) fn new(bytes: Bytes, count: Count) -> Self {
        Self {
            bytes,
            count,
            ends_frame: true,
            cost: 0,
        }
    }
}

/// Why a chunk was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is no room now.
    Full,
    /// The peer is gone, or is being drained.
    Closed,
}

/// The queue of what one peer is still to get.
pub(crate) struct Outbox {
    state: Mutex<State>,
    /// Wakes those who wait for room, or for all to be written.
    moved: Notify,
    /// Wakes the one who watches whether the peer is too slow.
    pressed: Signal,
    /// What waits to be written to all peers of the node.
    queued: Gauge,
    /// The peer's, for frames that take no bytes.
    counters: Arc<Counters>,
}

struct State {
    queue: VecDeque<Entry>,
    /// Small frames not yet in the queue, always behind all that is.
    tail: BytesMut,
    tail_count: Count,
    tail_cost: usize,
    tail_size: usize,
    used: usize,
    /// How much of `used` the gauge of all peers knows.
    gauged: usize,
    limit: usize,
    /// Bytes taken in and bytes done with (written or dropped), since the beginning.
    taken: u64,
    done: u64,
    written: u64,
    waiting: usize,
    /// Up to where someone waits for all to be done with, where someone does.
    flush: Option<u64>,
    pressed: bool,
    /// Someone waited for room in vain, and half of it has not come back since.
    slow: bool,
    closed: bool,
    /// Which of the peer's connections may take from here.
    active: u64,
    writer: Option<Waker>,
    /// The connection that would take from here next.
    standby: Option<Waker>,
}

impl Outbox {
    /// Makes an empty outbox of at most `limit` bytes, which the connection `active` empties. Its
    /// bytes are part of those in `queued`, and frames that take none are counted in `counters`.
    pub(crate) fn new(limit: usize, active: u64, queued: Gauge, counters: Arc<Counters>) -> Self {
        Self {
            state: Mutex::new(State {
                queue: VecDeque::new(),
                tail: BytesMut::new(),
                tail_count: Count::default(),
                tail_cost: 0,
                tail_size: TAIL_MIN,
                used: 0,
                gauged: 0,
                limit,
                taken: 0,
                done: 0,
                written: 0,
                waiting: 0,
                flush: None,
                pressed: false,
                slow: false,
                closed: false,
                active,
                writer: None,
                standby: None,
            }),
            moved: Notify::new(),
            pressed: Signal::default(),
            queued,
            counters,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here leaves the state half changed when it panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in as many of `chunks` as there is room for, in order, and says how many.
    ///
    /// # Errors
    ///
    /// Where not even the first was taken.
    pub(crate) fn try_push(&self, chunks: &[Chunk]) -> Result<usize, Refused> {
        self.try_push_by(None, chunks)
    }

    /// Takes in as many of `chunks` as there is room for, from the connection `link`, which goes on
    /// to write if it is the one that takes from here: so it is not woken for that. To wake a task
    /// that runs sends another thread after it.
    ///
    /// # Errors
    ///
    /// As for [`try_push`](Outbox::try_push).
    pub(crate) fn try_push_by(
        &self,
        link: Option<u64>,
        chunks: &[Chunk],
    ) -> Result<usize, Refused> {
        let mut state = self.state();
        if state.closed {
            return Err(Refused::Closed);
        }
        let mut nothing = Count::default();
        let taken = chunks
            .iter()
            .take_while(|chunk| match chunk.len() {
                0 => {
                    nothing.add(chunk.count);
                    true
                }
                _ => state.push(chunk),
            })
            .count();
        let wake = taken > 0 && link != Some(state.active);
        let writer = if wake { state.writer.take() } else { None };
        let first_press = taken < chunks.len() && !state.pressed;
        state.pressed |= first_press;
        self.gauge(&mut state);
        drop(state);
        let (own, relayed) = (nothing.own.into(), nothing.relayed.into());
        self.counters.add_written(own, relayed);
        if let Some(writer) = writer {
            writer.wake();
        }
        if first_press {
            self.pressed.raise();
        }
        if taken == 0 && !chunks.is_empty() {
            Err(Refused::Full)
        } else {
            Ok(taken)
        }
    }

    /// Takes in `chunks`, in order, waiting for room.
    ///
    /// # Errors
    ///
    /// Where the peer is gone, or goes.
    ///
    /// # Cancel safety
    ///
    /// What was taken in before stays in; `progress` says how many chunks that is.
    pub(crate) async fn push(&self, chunks: &[Chunk], progress: &mut usize) -> Result<(), Refused> {
        let mut moved = None;
        loop {
            match self.try_push(chunks.get(*progress..).unwrap_or_default()) {
                Ok(taken) => *progress += taken,
                Err(Refused::Full) => {}
                Err(Refused::Closed) => return Err(Refused::Closed),
            }
            if *progress >= chunks.len() {
                return Ok(());
            }
            // Tried once more after registering, so that room made in between is not missed.
            match moved.take() {
                None => moved = Some(self.waiting()),
                Some(waiting) => Waiting::wait(waiting).await,
            }
        }
    }

    /// Waits until all that is in here now is written, or dropped.
    pub(crate) async fn flushed(&self) {
        let target = self.state().taken;
        self.done_with(target).await;
    }

    /// Waits, where more than `most` bytes wait here, until about half of that do.
    pub(crate) async fn eased(&self, most: usize) {
        let target = {
            let state = self.state();
            if state.used <= most {
                return;
            }
            state.taken.saturating_sub((most / 2) as u64)
        };
        self.done_with(target).await;
    }

    /// Waits until so many bytes, counted from the beginning, are written, or dropped.
    async fn done_with(&self, target: u64) {
        loop {
            let moved = self.waiting();
            {
                let mut state = self.state();
                if state.done >= target {
                    return;
                }
                state.flush = Some(state.flush.map_or(target, |first| first.min(target)));
            }
            moved.wait().await;
        }
    }

    fn waiting(&self) -> Waiting<'_> {
        self.state().waiting += 1;
        let mut moved = Box::pin(self.moved.notified());
        moved.as_mut().enable();
        Waiting {
            outbox: self,
            moved,
        }
    }

    /// Ready once someone had to wait for room in here.
    pub(crate) fn poll_pressed(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.pressed.poll_raised(cx)
    }

    /// Whether someone had to wait for room, and half of the room has not come back since.
    pub(crate) fn is_pressed(&self) -> bool {
        self.state().pressed
    }

    /// Marks the peer as slow: from now on nobody waits for room who need not, until half of it is
    /// free again.
    pub(crate) fn mark_slow(&self) {
        let mut state = self.state();
        state.slow = state.used > state.limit / 2;
    }

    /// Whether the peer is marked as slow.
    pub(crate) fn is_slow(&self) -> bool {
        self.state().slow
    }

    /// The bytes written since the beginning.
    pub(crate) fn written(&self) -> u64 {
        self.state().written
    }

    /// The bytes that wait here, with what the entries cost.
    pub(crate) fn used(&self) -> usize {
        self.state().used
    }

    /// Whether more is refused.
    pub(crate) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Refuses more from now on; what is in here stays, to be written.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let writer = state.writer.take();
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
        self.moved.notify_waiters();
    }

    /// Drops all that is in here, and says how many frames that was.
    pub(crate) fn clear(&self) -> Count {
        let mut state = self.state();
        state.seal();
        let mut lost = Count::default();
        for entry in std::mem::take(&mut state.queue) {
            lost.add(entry.count);
            state.forget(&entry);
        }
        self.gauge(&mut state);
        drop(state);
        self.moved.notify_waiters();
        lost
    }

    /// Tells the gauge of all peers what has changed here.
    fn gauge(&self, state: &mut State) {
        let (now, before) = (state.used, state.gauged);
        if now > before {
            self.queued.increment((now - before) as f64);
        } else if now < before {
            self.queued.decrement((before - now) as f64);
        }
        state.gauged = now;
    }

    /// Lets the connection `link` take from here, in the place of the one before.
    pub(crate) fn activate(&self, link: u64) {
        let mut state = self.state();
        state.active = link;
        let wake = [state.writer.take(), state.standby.take()];
        drop(state);
        wake.into_iter().flatten().for_each(Waker::wake);
    }

    /// Moves the next entries into `batch`, for the connection `link` to write.
    ///
    /// Ready with `false` where there is nothing for this connection and never will be: the outbox
    /// is closed and empty, or another connection takes from it and this one does not `stand_by`.
    pub(crate) fn poll_take(
        &self,
        link: u64,
        stand_by: bool,
        cx: &mut Context<'_>,
        batch: &mut VecDeque<Entry>,
    ) -> Poll<bool> {
        let mut state = self.state();
        if state.active != link {
            if !stand_by {
                return Poll::Ready(false);
            }
            state.standby = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if state.queue.is_empty() {
            state.seal();
        }
        if state.queue.is_empty() {
            if state.closed {
                return Poll::Ready(false);
            }
            // An idle peer keeps nothing.
            state.tail_size = TAIL_MIN;
            if state.queue.capacity() > IDLE_ENTRIES {
                state.queue = VecDeque::new();
            }
            if batch.capacity() > IDLE_ENTRIES {
                *batch = VecDeque::new();
            }
            match &mut state.writer {
                Some(waker) if waker.will_wake(cx.waker()) => {}
                slot => *slot = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        let mut bytes = 0;
        let mut ends_frame = true;
        // Never only the beginning of a frame: its end might be another connection's to take.
        while !ends_frame || (batch.len() < BATCH_ENTRIES && bytes < BATCH_BYTES) {
            if state.queue.is_empty() {
                state.seal();
            }
            let Some(entry) = state.queue.pop_front() else {
                break;
            };
            bytes += entry.bytes.len();
            ends_frame = entry.ends_frame;
            batch.push_back(entry);
        }
        Poll::Ready(true)
    }

    /// Tells that `bytes` more were written, and that the `finished` entries are done with.
    pub(crate) fn wrote(&self, bytes: usize, finished: impl Iterator<Item = Entry>) {
        let mut state = self.state();
        state.written += bytes as u64;
        for entry in finished {
            state.forget(&entry);
        }
        let relieved = state.used <= state.limit / 2;
        if relieved {
            state.pressed = false;
            state.slow = false;
        }
        // Those who wait for room are woken when half of it is free, so that they come in batches;
        // those who wait for what was there to be written, when that is so.
        let done = state.done;
        let flushed = state.flush.take_if(|flush| *flush <= done).is_some();
        let wake = flushed || state.waiting > 0 && relieved;
        self.gauge(&mut state);
        drop(state);
        if wake {
            self.moved.notify_waiters();
        }
    }

    /// Forgets entries that a connection took and could not write; says how many frames that was.
    pub(crate) fn lose(&self, batch: &mut VecDeque<Entry>) -> Count {
        let mut lost = Count::default();
        let mut state = self.state();
        for entry in batch.drain(..) {
            lost.add(entry.count);
            state.forget(&entry);
        }
        self.gauge(&mut state);
        drop(state);
        self.moved.notify_waiters();
        lost
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let mut state = self.state();
        state.used = 0;
        self.gauge(&mut state);
    }
}

/// Someone who waits for an outbox to move, registered from the moment this is made.
struct Waiting<'a> {
    outbox: &'a Outbox,
    moved: Pin<Box<Notified<'a>>>,
}

impl Waiting<'_> {
    async fn wait(mut self) {
        self.moved.as_mut().await;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.outbox.state().waiting -= 1;
    }
}

impl State {
    /// Takes in one chunk, of one byte at least, if there is room for it.
    fn push(&mut self, chunk: &Chunk) -> bool {
        let len = chunk.len();
        // What nothing stands before is written as it is, and shared with other peers.
        let verbatim = len == chunk.body.len();
        let alone = verbatim && self.queue.is_empty() && self.tail.is_empty();
        let copied = len <= COPY_MAX && !alone;
        let fits_tail = self.tail.capacity() - self.tail.len() >= len;
        let cost = if copied {
            if fits_tail {
                0
            } else {
                self.tail_size.max(len) + ENTRY_COST
            }
        } else {
            chunk.body.len() + 3 * ENTRY_COST + 2 * AROUND
        };
        // One chunk always finds room, however small the limit.
        if self.used + cost > self.limit && self.used > 0 {
            return false;
        }
        if copied {
            if !fits_tail {
                self.seal();
                self.open_tail(self.tail_size.max(len));
                self.tail_size = (self.tail_size * 2).min(TAIL_MAX);
            }
            self.tail.put_slice(chunk.framing.prefix());
            self.tail.put_slice(&chunk.body);
            self.tail.put_slice(chunk.framing.suffix());
            self.tail_count.add(chunk.count);
        } else {
            let (prefix, suffix) = (chunk.framing.prefix(), chunk.framing.suffix());
            self.put_around(prefix);
            self.seal_at(prefix.is_empty());
            let cost = chunk.body.len() + ENTRY_COST;
            self.used += cost;
            self.queue.push_back(Entry {
                bytes: chunk.body.clone(),
                count: chunk.count,
                ends_frame: suffix.is_empty(),
                cost,
            });
            self.put_around(suffix);
        }
        self.taken += len as u64;
        true
    }

    /// Puts what stands before or after a large body into the tail.
    fn put_around(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.tail.capacity() - self.tail.len() < bytes.len() {
            self.seal();
            self.open_tail(AROUND);
        }
        self.tail.put_slice(bytes);
    }

    fn open_tail(&mut self, size: usize) {
        self.tail = BytesMut::with_capacity(size);
        self.tail_cost = size + ENTRY_COST;
        self.used += self.tail_cost;
    }

    /// Puts the tail into the queue.
    fn seal(&mut self) {
        self.seal_at(true);
    }

    fn seal_at(&mut self, ends_frame: bool) {
        if self.tail.is_empty() {
            // An unused tail is given back with what it counted for.
            self.used = self
                .used
                .saturating_sub(std::mem::take(&mut self.tail_cost));
            self.tail = BytesMut::new();
            return;
        }
        self.queue.push_back(Entry {
            bytes: std::mem::take(&mut self.tail).freeze(),
            count: std::mem::take(&mut self.tail_count),
            ends_frame,
            cost: std::mem::take(&mut self.tail_cost),
        });
    }

    fn forget(&mut self, entry: &Entry) {
        self.used = self.used.saturating_sub(entry.cost);
        self.done += entry.bytes.len() as u64;
    }
}
