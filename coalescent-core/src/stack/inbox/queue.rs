//! The frames of all connections of a node that wait to be read.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;

use super::FRAME_COST;
use super::group::{FrameGroup, Heads};
use super::prefetch::Prefetch;
use crate::frame::in_flight::BufferId;
use crate::node::Node;

/// How many emptied lists of heads are kept for connections to fill again, while there is something
/// to read.
pub(super) const SPARE_LISTS: usize = 4;

/// How many frames a reader takes at a time if there are other readers.
pub(super) const SHARED_FILL: usize = 32;

/// The frames that wait to be read, with a limit in bytes.
///
/// A frame is a slice of the buffer that it was read into, and keeps the whole buffer alive. So the
/// buffer is what counts towards the limit, once for consecutive frames of the same one, plus
/// [`FRAME_COST`] for each frame.
///
/// Frames come in and go out in groups, so that neither a connection nor a reader takes the lock
/// for each frame.
pub(crate) struct Queue {
    limit: usize,
    /// The number of readers, and of [diversions](super::diversion); without any, frames are
    /// discarded. It is changed only while `state` is locked, so it is exact under the lock. It is
    /// not part of `state` so that [`is_read`](Queue::is_read), which is asked for each frame,
    /// needs no lock.
    readers: AtomicUsize,
    /// How many of `readers` are diversions: readers of the queue of one peer.
    diverted: AtomicUsize,
    state: Mutex<State>,
    /// Notified when there is room again.
    emptied: Notify,
}

#[derive(Default)]
pub(super) struct State {
    groups: VecDeque<FrameGroup>,
    /// The cost in bytes of the groups here, and of those in the readers' prefetches.
    used: usize,
    /// The readers that wait for frames, by their numbers.
    wakers: Vec<(u64, Waker)>,
    /// The number of the last reader.
    last_reader: u64,
    /// How many calls of [`push`](Queue::push) wait for room.
    waiting: usize,
    /// Whether a reader has ever asked for frames.
    asked: bool,
    /// Whether the mesh has ended: no more frames are taken.
    ended: bool,
    /// The buffer of the last group, which is counted already.
    last_buffer: Option<BufferId>,
    /// Emptied lists of heads, for connections to fill again.
    spare_lists: Vec<Heads>,
}

/// The queue of a node, stored among the node's shared values.
#[derive(Clone)]
struct ReadSide(Arc<Queue>);

impl Queue {
    /// Returns the queue of a node, which is made at the first call.
    pub(crate) fn of(node: &Node) -> Arc<Self> {
        let limit = node.config().inbox;
        node.get_or_share(|| ReadSide(Arc::new(Self::new(limit)))).0
    }

    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            readers: AtomicUsize::new(0),
            diverted: AtomicUsize::new(0),
            state: Mutex::new(State::default()),
            emptied: Notify::new(),
        }
    }

    /// Returns the limit in bytes.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody reads, so that frames are kept.
    #[inline]
    pub(crate) fn is_read(&self) -> bool {
        self.readers.load(Ordering::Acquire) > 0
    }

    /// Whether calls wait for room.
    pub(super) fn has_waiting(&self) -> bool {
        self.state().waiting > 0
    }

    /// Whether a reader has ever asked for frames.
    pub(super) fn was_asked(&self) -> bool {
        self.state().asked
    }

    /// Whether frames of some peer may go to a queue of its own.
    #[inline]
    pub(super) fn is_diverted(&self) -> bool {
        self.diverted.load(Ordering::Acquire) > 0
    }

    /// Counts a reader of the queue of one peer: its frames must be kept, though not here.
    pub(super) fn divert(&self) {
        let _state = self.state();
        self.diverted.fetch_add(1, Ordering::Release);
        self.readers.fetch_add(1, Ordering::Release);
    }

    /// Takes back one [`divert`](Queue::divert).
    pub(super) fn undivert(&self) {
        let _state = self.state();
        self.readers.fetch_sub(1, Ordering::Release);
        self.diverted.fetch_sub(1, Ordering::Release);
    }

    /// Returns the number of readers of this queue. Exact while `state` is locked.
    fn own_readers(&self) -> usize {
        let diverted = self.diverted.load(Ordering::Relaxed);
        self.readers
            .load(Ordering::Relaxed)
            .saturating_sub(diverted)
    }

    /// Takes groups from the front of `groups` as long as there is room, and leaves the rest there.
    /// If nobody reads, takes all and discards them. Returns an emptied list of heads for the
    /// connection to fill, if there is one.
    pub(crate) fn offer(&self, groups: &mut VecDeque<FrameGroup>) -> Option<Heads> {
        if groups.is_empty() {
            return None;
        }
        let mut state = self.state();
        if self.own_readers() == 0 || state.ended {
            drop(state);
            groups.clear();
            return None;
        }
        while let Some(mut group) = groups.pop_front() {
            let counted = state.last_buffer == Some(group.buffer) && !state.groups.is_empty();
            let buffer_len = if counted { 0 } else { group.buffer_len };
            group.cost = group.len() * FRAME_COST + group.rewritten + buffer_len;
            // An empty queue always takes a group, however small the limit is, and however much
            // readers have taken and not returned.
            if state.used + group.cost > self.limit && !state.groups.is_empty() {
                groups.push_front(group);
                break;
            }
            state.last_buffer = Some(group.buffer);
            state.used += group.cost;
            state.groups.push_back(group);
        }
        let spare_list = state.spare_lists.pop();
        if !state.wakers.is_empty() {
            let wakers = std::mem::take(&mut state.wakers);
            drop(state);
            wakers.into_iter().for_each(|(_, waker)| waker.wake());
        }
        spare_list
    }

    /// Takes all of `groups`, waiting for room.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the groups that have found no room are still in `groups`.
    pub(crate) async fn push(&self, groups: &mut VecDeque<FrameGroup>) {
        self.offer(groups);
        if groups.is_empty() {
            return;
        }
        self.state().waiting += 1;
        let _waiting = WaitingForRoom(self);
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            self.offer(groups);
            if groups.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// Returns what `prefetch` has read to the queue, and fills it again. Ready with `false` when
    /// the mesh has ended and everything was read.
    pub(crate) fn poll_fill(&self, prefetch: &mut Prefetch, cx: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.state();
        state.asked = true;
        let freed = state.take_back(prefetch);
        let ready = if !state.groups.is_empty() {
            state.fill(prefetch, self.own_readers() == 1);
            Poll::Ready(true)
        } else if state.ended {
            Poll::Ready(false)
        } else {
            // An idle reader keeps no memory.
            prefetch.shrink();
            state.spare_lists = Vec::new();
            state.register(prefetch.reader, cx.waker());
            Poll::Pending
        };
        self.wake_waiting(state, freed);
        ready
    }

    /// Returns what `prefetch` has read to the queue, if it is enough to matter to connections that
    /// wait for room.
    pub(crate) fn settle(&self, prefetch: &mut Prefetch) {
        if prefetch.freed >= self.limit / 4 {
            let mut state = self.state();
            let freed = std::mem::take(&mut prefetch.freed);
            state.used -= freed;
            self.wake_waiting(state, freed);
        }
    }

    /// Wakes connections that wait for room, after `freed` bytes were returned.
    fn wake_waiting(&self, state: MutexGuard<'_, State>, freed: usize) {
        // An empty queue has room by definition, even if other readers have not returned what they
        // have taken. Without this, a connection could wait for them forever.
        let room = freed > 0 && state.used <= self.limit / 2 || state.groups.is_empty();
        let wake = state.waiting > 0 && room;
        drop(state);
        if wake {
            self.emptied.notify_waiters();
        }
    }

    /// Adds a reader. Frames are kept from the first reader on.
    pub(crate) fn open(&self) -> Prefetch {
        let mut state = self.state();
        self.readers.fetch_add(1, Ordering::Release);
        state.last_reader += 1;
        Prefetch::new(state.last_reader)
    }

    /// Removes a reader, and puts back what it has not read. Without any reader, frames are
    /// discarded.
    pub(crate) fn close(&self, prefetch: &mut Prefetch) {
        let mut state = self.state();
        self.readers.fetch_sub(1, Ordering::Release);
        let readers = self.own_readers();
        state.used -= std::mem::take(&mut prefetch.freed);
        for group in std::mem::take(&mut prefetch.following).into_iter().rev() {
            state.groups.push_front(group);
        }
        if let Some(current) = prefetch.current.take() {
            state.groups.push_front(current);
        }
        let discarded = if readers == 0 {
            state.used = 0;
            std::mem::take(&mut state.groups)
        } else {
            VecDeque::new()
        };
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        drop(discarded);
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
        self.emptied.notify_waiters();
    }

    /// Takes no more frames. What is in the queue can still be read.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
        self.emptied.notify_waiters();
    }
}

impl State {
    /// Takes back what a reader has read. Returns how many bytes that frees.
    fn take_back(&mut self, prefetch: &mut Prefetch) -> usize {
        let freed = std::mem::take(&mut prefetch.freed);
        self.used -= freed;
        let room = SPARE_LISTS.saturating_sub(self.spare_lists.len());
        let count = prefetch.spare_lists.len().min(room);
        self.spare_lists.extend(prefetch.spare_lists.drain(..count));
        prefetch.spare_lists.clear();
        freed
    }

    /// Moves groups to a reader: all of them to the only one, or else some of the oldest.
    fn fill(&mut self, prefetch: &mut Prefetch, only_reader: bool) {
        if only_reader {
            std::mem::swap(&mut self.groups, &mut prefetch.following);
        } else if let Some(some) = self.take_some() {
            prefetch.following.push_back(some);
        }
        self.last_buffer = None;
    }

    /// Takes out up to [`SHARED_FILL`] of the oldest frames.
    fn take_some(&mut self) -> Option<FrameGroup> {
        let mut oldest = self.groups.pop_front()?;
        if let Some(some) = oldest.split(SHARED_FILL) {
            self.groups.push_front(oldest);
            return Some(some);
        }
        Some(oldest)
    }

    /// Has `waker` woken when there are frames.
    fn register(&mut self, reader: u64, waker: &Waker) {
        match self.wakers.iter_mut().find(|(other, _)| *other == reader) {
            Some((_, known)) => known.clone_from(waker),
            None => self.wakers.push((reader, waker.clone())),
        }
    }
}

/// Counts a call that waits for room, until it is dropped.
struct WaitingForRoom<'a>(&'a Queue);

impl Drop for WaitingForRoom<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Queue")
            .field("groups", &state.groups.len())
            .field("used", &state.used)
            .field("readers", &self.readers.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "test-util"))]
#[path = "queue_tests.rs"]
mod tests;
