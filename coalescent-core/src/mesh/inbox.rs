//! The read side of the mesh: where frames come out that went through the stack.

use crate::error::Error;
use crate::frame::Frame;
use crate::peers::Node;
use crate::reply::Reply;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::sync::Notify;
use tower_service::Service;

/// What each frame on the read side counts for in addition to the buffer it keeps alive.
pub const FRAME_COST: usize = 256;

/// How many frames a reader takes at once when it is not the only one.
const SHARED_BATCH: usize = 32;

/// The frames that wait to be read, bounded in bytes.
///
/// A frame is a slice of the buffer it was read into, and keeps all of it alive. So that buffer is
/// what is counted, once for consecutive frames of the same one.
pub(crate) struct Queue {
    limit: usize,
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
}

impl Queue {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            state: Mutex::new(State::default()),
            emptied: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a frame in; gives it back where there is no room for it.
    fn offer(&self, frame: Frame) -> Option<Frame> {
        let mut state = self.state();
        if state.readers == 0 || state.ended {
            return None;
        }
        let origin = frame.origin();
        let shares = state.last == Some(origin) && !state.frames.is_empty();
        let pins = if shares { 0 } else { frame.pins() };
        let cost = pins + FRAME_COST;
        // One frame always finds room, however small the limit, and however much readers have taken and
        // not given back.
        if state.used + cost > self.limit && !state.frames.is_empty() {
            return Some(frame);
        }
        state.last = Some(origin);
        state.used += cost;
        state.frames.push_back(Kept { frame, cost });
        if !state.wakers.is_empty() {
            let wakers = std::mem::take(&mut state.wakers);
            drop(state);
            wakers.into_iter().for_each(|(_, waker)| waker.wake());
        }
        None
    }

    /// Gives back what `batch` has used up, and fills it anew: at once, so that neither a reader nor
    /// the peers take a lock for each frame they have in common. Ready with `false` when the mesh has
    /// ended and all was read.
    pub(super) fn poll_fill(&self, batch: &mut Batch, cx: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.state();
        let freed = std::mem::take(&mut batch.freed);
        state.used -= freed;
        let ready = if !state.frames.is_empty() {
            if state.readers == 1 {
                std::mem::swap(&mut state.frames, &mut batch.frames);
            } else {
                let some = state.frames.len().min(SHARED_BATCH);
                batch.frames.extend(state.frames.drain(..some));
            }
            state.last = None;
            Poll::Ready(true)
        } else if state.ended {
            Poll::Ready(false)
        } else {
            // An idle reader keeps nothing.
            if batch.frames.capacity() > SHARED_BATCH {
                batch.frames = VecDeque::new();
            }
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
        state.next_reader += 1;
        Batch {
            reader: state.next_reader,
            frames: VecDeque::new(),
            freed: 0,
        }
    }

    /// Counts one reader less, and puts back what it did not read; without any, frames are discarded.
    pub(super) fn close(&self, batch: &mut Batch) {
        let mut state = self.state();
        state.readers -= 1;
        state.used -= std::mem::take(&mut batch.freed);
        for kept in std::mem::take(&mut batch.frames).into_iter().rev() {
            state.frames.push_front(kept);
        }
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

/// A frame, and what it counts for.
#[derive(Debug)]
struct Kept {
    frame: Frame,
    cost: usize,
}

/// Frames that one reader has taken and not read.
#[derive(Debug)]
pub(super) struct Batch {
    reader: u64,
    frames: VecDeque<Kept>,
    /// What the frames read so far counted for.
    freed: usize,
}

impl Batch {
    pub(super) fn pop(&mut self) -> Option<Frame> {
        let Kept { frame, cost } = self.frames.pop_front()?;
        self.freed += cost;
        Some(frame)
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
/// memory. Ready at once; it is the call that waits.
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

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, frame: Frame) -> InboxFuture {
        frame.peer().counters().add_delivered();
        let back = self.node.inbox().offer(frame);
        InboxFuture(back.map(|frame| Box::pin(wait(Arc::clone(&self.node), frame)) as Wait))
    }
}

async fn wait(node: Arc<Node>, frame: Frame) {
    let queue = node.inbox();
    queue.state().waiting += 1;
    let _waiting = Waiting(queue);
    let mut frame = frame;
    loop {
        let emptied = queue.emptied.notified();
        tokio::pin!(emptied);
        emptied.as_mut().enable();
        match queue.offer(frame) {
            None => return,
            Some(back) => frame = back,
        }
        emptied.await;
    }
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
