//! The outbox of a peer: the queue of encoded frames that wait to be written to it, bounded in
//! bytes.
//!
//! Relays, handlers and the application push encoded frames at the same time; one connection takes
//! entries out in batches and writes them vectored. Small frames are copied into one buffer, so
//! that they cost neither an entry nor a wake-up each. Larger ones, and the runs that relays hand
//! on, keep their memory and share it with the outboxes of other peers.
//!
//! A frame that takes no bytes on its peer's wire, such as an empty payload on `raw`, is never
//! queued: it is counted as written when it is pushed.
//!
//! The frames of channels have a second lane (`lane.rs`), with room of their own. It is made when
//! the first such frame is queued.
//!
//! An outbox has one lock, taken once for each push and each write, and never held across an await.

mod chunk;
mod coalescer;
mod lane;
mod queue;
mod takers;
mod wait;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

pub(crate) use chunk::{Chunk, Count, Entry, Lost, frames};
pub(crate) use coalescer::{COALESCE_MAX, ChunkList, Coalescer};
pub use lane::{CHANNEL_BULK, CHANNEL_OUTBOX};
use lane::{ChannelLane, Lane};
pub(crate) use queue::COPY_MAX;
pub use queue::ENTRY_COST;
use takers::Takers;
use tokio::sync::Notify;

use crate::signal::Signal;
use crate::stats::Counters;
use crate::stats::meter::Gauge;

/// How a relay treats a peer that has no room for a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flow {
    /// Waits for room, and so holds back the frame's source: nothing is lost. For trees and stars
    /// only, because in a mesh with circles two nodes can wait for each other.
    Wait,
    /// Waits for a short grace ([`Config::relay_grace`](crate::Config::relay_grace)), then drops
    /// the frame for that peer alone, and counts it. Cannot deadlock, whatever the topology.
    Drop,
}

/// Why a chunk was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is no room now.
    Full,
    /// The peer is gone, or is being drained.
    Closed,
}

/// The queue of encoded frames that wait to be written to one peer.
pub(crate) struct Outbox {
    state: Mutex<State>,
    /// Wakes tasks that wait for room, or for the content to be written.
    moved: Notify,
    /// Wakes the connection, which watches whether the peer is too slow.
    pressed: Signal,
    /// The gauge of the bytes queued for all peers of the node.
    queued: Gauge,
    /// The peer's counters, for frames that take no bytes.
    counters: Arc<Counters>,
}

struct State {
    /// The frames to be written, and their cost.
    frames: Lane,
    /// The frames of channels to be written. Made when it is first needed.
    channels: Option<Box<ChannelLane>>,
    /// The connections that take entries.
    takers: Takers,
    /// How much of the queue's cost is in the gauge of all peers.
    gauged: usize,
    /// The bytes written to the socket since the beginning.
    written: u64,
    /// Whether a push found no room, and half of the room has not become free since.
    pressed: bool,
    /// Whether a relay waited for room in vain, and half of the room has not become free since.
    slow: bool,
    /// Whether pushes are refused. Set by the first step of a departure.
    closed: bool,
}

impl Outbox {
    /// Creates an empty outbox of at most `limit` bytes, which the connection `active` takes from.
    /// Its bytes are added to the gauge `queued`; frames that take no bytes are counted in
    /// `counters`.
    pub(crate) fn new(limit: usize, active: u64, queued: Gauge, counters: Arc<Counters>) -> Self {
        Self {
            state: Mutex::new(State {
                frames: Lane::new(limit),
                channels: None,
                takers: Takers::new(active),
                gauged: 0,
                written: 0,
                pressed: false,
                slow: false,
                closed: false,
            }),
            moved: Notify::new(),
            pressed: Signal::default(),
            queued,
            counters,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic under the lock leaves the state consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in as many of `chunks` as there is room for, in order, and returns their number.
    ///
    /// # Errors
    ///
    /// If not even the first was taken in.
    pub(crate) fn try_push(&self, chunks: &[Chunk]) -> Result<usize, Refused> {
        self.try_push_by(None, chunks)
    }

    /// Takes in as many of `chunks` as there is room for, on behalf of the connection `link`.
    ///
    /// If that is the active connection, it is not woken, because it goes on to write anyway:
    /// waking a task that is running makes another thread look for it.
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
        let mut without_bytes = Count::default();
        let taken = chunks
            .iter()
            .take_while(|chunk| match chunk.len() {
                0 => {
                    without_bytes.add(chunk.count);
                    true
                }
                _ => state.frames.queue.push(chunk),
            })
            .count();
        let wake = taken > 0 && !link.is_some_and(|link| state.takers.is_active(link));
        let waker = if wake {
            state.takers.take_waker()
        } else {
            None
        };
        let first_press = taken < chunks.len() && !state.pressed;
        state.pressed |= first_press;
        self.gauge(&mut state);
        drop(state);
        let (own, relayed) = (without_bytes.own.into(), without_bytes.relayed.into());
        self.counters.add_written(own, relayed);
        if let Some(waker) = waker {
            waker.wake();
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

    /// Takes in a frame of a channel, if there is room for it, or for frames in `bulk`.
    ///
    /// # Errors
    ///
    /// If it was not taken in.
    pub(crate) fn try_push_channel(&self, chunk: &Chunk, bulk: bool) -> Result<(), Refused> {
        let mut state = self.state();
        if state.closed {
            return Err(Refused::Closed);
        }
        if state.channels.get_or_insert_default().push(chunk, bulk) {
            let waker = state.takers.take_waker();
            self.gauge(&mut state);
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
            return Ok(());
        }
        Err(self.press(state))
    }

    /// Notes that something found no room.
    fn press(&self, mut state: MutexGuard<'_, State>) -> Refused {
        let first_press = !std::mem::replace(&mut state.pressed, true);
        drop(state);
        if first_press {
            self.pressed.raise();
        }
        Refused::Full
    }

    /// Looks whether a frame of a channel in bulk, of `len` bytes, finds room now.
    ///
    /// # Errors
    ///
    /// If it does not.
    pub(crate) fn has_bulk_room(&self, len: usize) -> Result<(), Refused> {
        let state = self.state();
        if state.closed {
            return Err(Refused::Closed);
        }
        let room = state.channels.as_ref();
        if room.is_none_or(|channels| channels.has_bulk_room(len)) {
            return Ok(());
        }
        Err(self.press(state))
    }

    /// Moves the next entries into the empty `batch`, for the connection `link` to write.
    ///
    /// Ready with `false` if there is nothing for this connection and never will be: the outbox is
    /// closed and empty, or another connection is active and this one does not `stand_by`.
    pub(crate) fn poll_take(
        &self,
        link: u64,
        stand_by: bool,
        cx: &mut Context<'_>,
        batch: &mut VecDeque<Entry>,
    ) -> Poll<bool> {
        let mut state = self.state();
        if !state.takers.is_active(link) {
            if !stand_by {
                return Poll::Ready(false);
            }
            state.takers.stand_by(cx);
            return Poll::Pending;
        }
        let State {
            frames, channels, ..
        } = &mut *state;
        if let Some(channels) = channels
            && channels.take_turn(&mut frames.queue, batch)
        {
            return Poll::Ready(true);
        }
        if state.frames.queue.is_drained() {
            if state.closed {
                return Poll::Ready(false);
            }
            state.frames.queue.shrink_idle(batch);
            if let Some(channels) = &mut state.channels {
                channels.lane.queue.shrink_idle(batch);
            }
            state.takers.wait(cx);
            return Poll::Pending;
        }
        state.frames.queue.take(batch);
        Poll::Ready(true)
    }

    /// Reports that `bytes` more were written, and that the `finished` entries are done with.
    pub(crate) fn wrote(&self, bytes: usize, finished: impl Iterator<Item = Entry>) {
        let mut state = self.state();
        state.written += bytes as u64;
        for entry in finished {
            state.release(&entry);
        }
        let relieved = state.frames.queue.is_half_free();
        let channels = state.channels.as_mut();
        let due = channels.is_some_and(|channels| channels.lane.is_due());
        if relieved {
            let channels = state.channels.as_ref();
            state.pressed &= channels.is_some_and(|channels| !channels.lane.queue.is_half_free());
            state.slow = false;
        }
        let wake = state.frames.is_due() | due;
        self.gauge(&mut state);
        drop(state);
        if wake {
            self.moved.notify_waiters();
        }
    }

    /// Drops entries that a connection took and could not write. Returns the number of their
    /// frames.
    pub(crate) fn lose(&self, batch: &mut VecDeque<Entry>) -> Lost {
        let mut lost = Lost::default();
        let mut state = self.state();
        for entry in batch.drain(..) {
            lost.add(&entry);
            state.release(&entry);
        }
        self.gauge(&mut state);
        drop(state);
        self.moved.notify_waiters();
        lost
    }

    /// Lets the connection `link` take entries, in place of the active one.
    pub(crate) fn activate(&self, link: u64) {
        let mut state = self.state();
        let wake = state.takers.activate(link);
        drop(state);
        wake.into_iter().flatten().for_each(Waker::wake);
    }

    /// Has the frames of channels that are queued written before all other frames.
    pub(crate) fn channels_first(&self) {
        if let Some(channels) = &mut self.state().channels {
            channels.go_first();
        }
    }

    /// Refuses pushes from now on; what is queued stays, to be written.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let waker = state.takers.take_waker();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        self.moved.notify_waiters();
    }

    /// Drops all that is queued, and returns the number of its frames.
    pub(crate) fn clear(&self) -> Lost {
        let mut state = self.state();
        let frames = state.frames.queue.clear().total();
        let channels = state.channels.as_mut();
        let channel = channels.map_or(0, |channels| channels.lane.queue.clear().total());
        let lost = Lost { frames, channel };
        self.gauge(&mut state);
        drop(state);
        self.moved.notify_waiters();
        lost
    }

    /// Returns whether pushes are refused.
    pub(crate) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Waits until a push found no room.
    pub(crate) fn poll_pressed(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.pressed.poll_raised(cx)
    }

    /// Returns whether a push found no room, and half of the room has not become free since.
    pub(crate) fn is_pressed(&self) -> bool {
        self.state().pressed
    }

    /// Marks the peer as slow: relays that may drop frames no longer wait for it, until half of the
    /// room is free again.
    pub(crate) fn mark_slow(&self) {
        let mut state = self.state();
        state.slow = !state.frames.queue.is_half_free();
    }

    /// Returns whether the peer is marked as slow.
    pub(crate) fn is_slow(&self) -> bool {
        self.state().slow
    }

    /// Returns the bytes written since the beginning.
    pub(crate) fn written(&self) -> u64 {
        self.state().written
    }

    /// Returns the bytes queued, including the cost of the entries.
    pub(crate) fn used(&self) -> usize {
        self.state().used()
    }

    /// Updates the gauge of all peers.
    fn gauge(&self, state: &mut State) {
        self.gauge_as(state, state.used());
    }

    fn gauge_as(&self, state: &mut State, now: usize) {
        let before = std::mem::replace(&mut state.gauged, now);
        if now > before {
            self.queued.increment((now - before) as f64);
        } else if now < before {
            self.queued.decrement((before - now) as f64);
        }
    }
}

impl State {
    /// Returns the bytes queued, including the cost of the entries.
    fn used(&self) -> usize {
        let channels = self.channels.as_ref();
        let channels = channels.map_or(0, |channels| channels.lane.queue.used());
        self.frames.queue.used() + channels
    }

    /// Returns the cost of an entry that has been written or dropped.
    #[inline]
    fn release(&mut self, entry: &Entry) {
        self.lane(entry.channel).queue.release(entry);
    }

    /// Returns the lane of frames, or that of the frames of channels.
    #[inline]
    fn lane(&mut self, channel: bool) -> &mut Lane {
        if channel {
            &mut self.channels.get_or_insert_default().lane
        } else {
            &mut self.frames
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.gauge_as(&mut self.state(), 0);
    }
}
