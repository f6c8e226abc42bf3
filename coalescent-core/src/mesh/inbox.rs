//! The read side of the mesh: where frames come out that went through the stack.

use crate::connection::current;
use crate::error::Error;
use crate::frame::Frame;
use crate::peers::Node;
use crate::reply::Reply;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::sync::Notify;
use tower_service::Service;

/// What each frame on the read side counts for in addition to the buffer it keeps alive.
pub const FRAME_COST: usize = 256;

/// How many lists of frames are kept for being filled again, while there is something to read.
const EMPTY_LISTS: usize = 4;

/// How many frames a reader takes at once when it is not the only one.
const SHARED_BATCH: usize = 32;

/// The frames that wait to be read, bounded in bytes.
///
/// A frame is a slice of the buffer it was read into, and keeps all of it alive. So that buffer is
/// what is counted, once for consecutive frames of the same one.
///
/// Frames come in many at a time, and go out likewise: neither a reader nor a connection takes the lock for each.
pub(crate) struct Queue {
    limit: usize,
    /// How many readers there are: without any, nothing is kept, and the lock is not asked.
    readers: AtomicUsize,
    state: Mutex<State>,
    /// Wakes those who wait for room.
    emptied: Notify,
}

#[derive(Default)]
struct State {
    frames: VecDeque<Kept>,
    used: usize,
    readers: usize,
    /// Readers that wait for a frame.
    wakers: Vec<(u64, Waker)>,
    next_reader: u64,
    waiting: usize,
    ended: bool,
    /// Whose buffer the last frame taken in is a part of.
    last: Option<(u64, u64)>,
    /// Lists that were read, for the connections to fill again.
    empty: Vec<VecDeque<Frame>>,
}

impl Queue {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            readers: AtomicUsize::new(0),
            state: Mutex::new(State::default()),
            emptied: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether frames are kept: somebody reads.
    #[inline]
    pub(crate) fn is_read(&self) -> bool {
        self.readers.load(Ordering::Acquire) > 0
    }

    /// Takes frames in, all or none: what is left in `frames` then has found no room.
    pub(crate) fn offer(&self, frames: &mut VecDeque<Frame>) {
        if frames.is_empty() {
            return;
        }
        let mut state = self.state();
        if state.readers == 0 || state.ended {
            drop(state);
            frames.clear();
            return;
        }
        let mut last = state.last.filter(|_| !state.frames.is_empty());
        let mut cost = frames.len() * FRAME_COST;
        for frame in &*frames {
            let (buffer, pins) = frame.pinned();
            if last.replace(buffer) != Some(buffer) {
                cost += pins;
            }
        }
        // Some frames always find room, however small the limit, and however much readers have taken and
        // not given back.
        if state.used + cost > self.limit && !state.frames.is_empty() {
            return;
        }
        state.last = last;
        state.used += cost;
        match state.frames.back_mut() {
            // One at a time: without a list for each.
            Some(kept) if frames.len() == 1 && kept.frames.len() < SHARED_BATCH => {
                kept.cost += cost;
                kept.frames.extend(frames.drain(..));
            }
            _ => {
                let empty = state.empty.pop().unwrap_or_default();
                let frames = std::mem::replace(frames, empty);
                state.frames.push_back(Kept { frames, cost });
            }
        }
        if !state.wakers.is_empty() {
            let wakers = std::mem::take(&mut state.wakers);
            drop(state);
            wakers.into_iter().for_each(|(_, waker)| waker.wake());
        }
    }

    /// Takes frames in, waiting for room.
    ///
    /// # Cancel safety
    ///
    /// When dropped before it is done, the frames are still in `frames`.
    pub(crate) async fn push(&self, frames: &mut VecDeque<Frame>) {
        self.offer(frames);
        if frames.is_empty() {
            return;
        }
        self.state().waiting += 1;
        let _waiting = Waiting(self);
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            self.offer(frames);
            if frames.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// Gives back what `batch` has used up, and fills it anew. Ready with `false` when the mesh has ended and all
    /// was read.
    pub(super) fn poll_fill(&self, batch: &mut Batch, cx: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.state();
        let freed = std::mem::take(&mut batch.freed);
        state.used -= freed;
        let room = EMPTY_LISTS.saturating_sub(state.empty.len());
        let some = batch.empty.len().min(room);
        state.empty.extend(batch.empty.drain(..some));
        batch.empty.clear();
        let ready = if !state.frames.is_empty() {
            if state.readers == 1 {
                std::mem::swap(&mut state.frames, &mut batch.rest);
            } else if let Some(some) = state.take_some() {
                batch.rest.push_back(some);
            }
            state.last = None;
            Poll::Ready(true)
        } else if state.ended {
            Poll::Ready(false)
        } else {
            // An idle reader keeps nothing.
            batch.shrink();
            state.empty = Vec::new();
            match state
                .wakers
                .iter_mut()
                .find(|(reader, _)| *reader == batch.reader)
            {
                Some((_, waker)) => waker.clone_from(cx.waker()),
                None => state.wakers.push((batch.reader, cx.waker().clone())),
            }
            Poll::Pending
        };
        self.made_room(state, freed);
        ready
    }

    /// Gives back what `batch` has used up, where that is enough to matter to those who wait.
    pub(super) fn settle(&self, batch: &mut Batch) {
        if batch.freed >= self.limit / 4 {
            let mut state = self.state();
            let freed = std::mem::take(&mut batch.freed);
            state.used -= freed;
            self.made_room(state, freed);
        }
    }

    fn made_room(&self, state: MutexGuard<'_, State>, freed: usize) {
        // Also where nothing is left to read: what other readers have not given back must not keep this one
        // waiting for ever.
        let room = freed > 0 && state.used <= self.limit / 2 || state.frames.is_empty();
        let wake = state.waiting > 0 && room;
        drop(state);
        if wake {
            self.emptied.notify_waiters();
        }
    }

    /// Counts one more reader; from the first on, frames are kept.
    pub(super) fn open(&self) -> Batch {
        let mut state = self.state();
        state.readers += 1;
        self.readers.store(state.readers, Ordering::Release);
        state.next_reader += 1;
        Batch {
            reader: state.next_reader,
            first: VecDeque::new(),
            first_cost: 0,
            rest: VecDeque::new(),
            empty: Vec::new(),
            freed: 0,
        }
    }

    /// Counts one reader less, and puts back what it did not read; without any, frames are discarded.
    pub(super) fn close(&self, batch: &mut Batch) {
        let mut state = self.state();
        state.readers -= 1;
        self.readers.store(state.readers, Ordering::Release);
        state.used -= std::mem::take(&mut batch.freed);
        for kept in std::mem::take(&mut batch.rest).into_iter().rev() {
            state.frames.push_front(kept);
        }
        state.frames.push_front(Kept {
            frames: std::mem::take(&mut batch.first),
            cost: std::mem::take(&mut batch.first_cost),
        });
        let discarded = if state.readers == 0 {
            state.used = 0;
            std::mem::take(&mut state.frames)
        } else {
            VecDeque::new()
        };
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        drop(discarded);
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
        self.emptied.notify_waiters();
    }

    /// Takes no more frames; what is there can still be read.
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
    /// Takes out the oldest frames, for one of several readers.
    fn take_some(&mut self) -> Option<Kept> {
        let mut kept = self.frames.pop_front()?;
        if kept.frames.len() > SHARED_BATCH {
            let rest = kept.frames.split_off(SHARED_BATCH);
            // The buffers stay in use until the last of their frames is read.
            let cost = SHARED_BATCH * FRAME_COST;
            self.frames.push_front(Kept {
                frames: rest,
                cost: kept.cost - cost,
            });
            kept.cost = cost;
        }
        Some(kept)
    }
}

/// Frames that came together, and what they count for.
#[derive(Debug)]
struct Kept {
    frames: VecDeque<Frame>,
    cost: usize,
}

/// Frames that one reader has taken and not read.
#[derive(Debug)]
pub(super) struct Batch {
    reader: u64,
    first: VecDeque<Frame>,
    first_cost: usize,
    rest: VecDeque<Kept>,
    /// Lists that were read.
    empty: Vec<VecDeque<Frame>>,
    /// What the frames read so far counted for.
    freed: usize,
}

impl Batch {
    pub(super) fn pop(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.first.pop_front() {
                return Some(frame);
            }
            self.freed += std::mem::take(&mut self.first_cost);
            let Kept { frames, cost } = self.rest.pop_front()?;
            let read = std::mem::replace(&mut self.first, frames);
            if read.capacity() > 0 && self.empty.len() < EMPTY_LISTS {
                self.empty.push(read);
            }
            self.first_cost = cost;
        }
    }

    /// Whether the frame read last was the last of those it came with, so that what they counted for is free.
    pub(super) fn is_between(&self) -> bool {
        self.first.is_empty()
    }

    fn shrink(&mut self) {
        if self.first.capacity() > SHARED_BATCH {
            self.first = VecDeque::new();
        }
        if self.rest.capacity() > SHARED_BATCH {
            self.rest = VecDeque::new();
        }
        self.empty = Vec::new();
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Queue")
            .field("frames", &state.frames.len())
            .field("used", &state.used)
            .field("readers", &state.readers)
            .finish_non_exhaustive()
    }
}

/// The innermost service: hands each frame to the read side of the mesh.
///
/// As long as nobody has taken the read side, frames end here. Once somebody has
/// ([`Mesh::reader`](crate::Mesh::reader)), it holds up to
/// [`Config::inbox`](crate::Config::inbox) bytes; a reader that stops holds back the peers, not
/// memory. It is always ready. A call is done at once where the connection that read the frame makes it, and it
/// is that connection which waits for room, before it goes on reading; elsewhere (in a task behind a
/// buffer, say) it is the call that waits.
#[derive(Clone)]
pub struct Inbox {
    node: Arc<Node>,
}

impl Inbox {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self { node }
    }
}

impl Service<Frame> for Inbox {
    type Response = Reply;
    type Error = Error;
    type Future = InboxFuture;

    #[inline]
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, frame: Frame) -> InboxFuture {
        let inbox = self.node.inbox();
        if inbox.is_read() {
            // In the connection's own call it is the connection that waits for room, once for many frames.
            return InboxFuture(
                current::stage(frame)
                    .map(|frame| Box::pin(wait(Arc::clone(&self.node), frame)) as Wait),
            );
        }
        let (link, seq) = frame.place();
        if !current::discarded(link, seq) {
            frame.peer().counters().add_delivered(1);
        }
        InboxFuture(None)
    }
}

/// Brings a frame to the read side that is not in a call of its connection's, behind those that are.
async fn wait(node: Arc<Node>, frame: Frame) {
    frame.peer().counters().add_delivered(1);
    frame.unstaged().await;
    node.inbox().push(&mut VecDeque::from([frame])).await;
}

struct Waiting<'a>(&'a Queue);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

/// The response future of [`Inbox`].
pub struct InboxFuture(Option<Wait>);

type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Future for InboxFuture {
    type Output = Result<Reply, Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            None => Poll::Ready(Ok(Reply::None)),
            Some(wait) => wait.as_mut().poll(cx).map(|()| Ok(Reply::None)),
        }
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Inbox").field(self.node.inbox()).finish()
    }
}

impl fmt::Debug for InboxFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboxFuture")
            .field("waits", &self.0.is_some())
            .finish()
    }
}
