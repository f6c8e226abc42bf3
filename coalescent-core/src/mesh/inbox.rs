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
use std::task::{Context, Poll};
use tokio::sync::Notify;
use tower_service::Service;

/// What each frame on the read side counts for in addition to the buffer it keeps alive.
pub const FRAME_COST: usize = 256;

/// The frames that wait to be read, bounded in bytes.
///
/// A frame is a slice of the buffer it was read into, and keeps all of it alive. So that buffer is
/// what is counted, once for consecutive frames of the same one.
pub(crate) struct Queue {
    limit: usize,
    state: Mutex<State>,
    /// Wakes those who read.
    filled: Notify,
    /// Wakes those who wait for room.
    emptied: Notify,
}

#[derive(Default)]
struct State {
    frames: VecDeque<(Frame, usize)>,
    used: usize,
    readers: usize,
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
            filled: Notify::new(),
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
        // One frame always finds room, however small the limit.
        if state.used + cost > self.limit && !state.frames.is_empty() {
            return Some(frame);
        }
        state.last = Some(origin);
        state.used += cost;
        state.frames.push_back((frame, cost));
        let first = state.frames.len() == 1;
        drop(state);
        if first {
            self.filled.notify_waiters();
        }
        None
    }

    fn take(&self) -> Option<Frame> {
        let mut state = self.state();
        let (frame, cost) = state.frames.pop_front()?;
        state.used -= cost;
        if state.frames.is_empty() && state.frames.capacity() > 64 {
            state.frames.shrink_to(0);
        }
        let wake = state.waiting > 0 && state.used <= self.limit / 2;
        drop(state);
        if wake {
            self.emptied.notify_waiters();
        }
        Some(frame)
    }

    /// Waits for a frame; `None` when the mesh has ended and all was read.
    pub(super) async fn next(&self) -> Option<Frame> {
        loop {
            let filled = self.filled.notified();
            tokio::pin!(filled);
            filled.as_mut().enable();
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            if self.state().ended {
                return None;
            }
            filled.await;
        }
    }

    /// Takes a frame if one is there.
    pub(super) fn try_next(&self) -> Option<Frame> {
        self.take()
    }

    /// Counts one more reader; from the first on, frames are kept.
    pub(super) fn open(&self) {
        self.state().readers += 1;
    }

    /// Counts one reader less; without any, frames are discarded.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.readers -= 1;
        if state.readers == 0 {
            let frames = std::mem::take(&mut state.frames);
            state.used = 0;
            drop(state);
            drop(frames);
            self.emptied.notify_waiters();
        }
    }

    /// Takes no more frames; what is there can still be read.
    pub(crate) fn end(&self) {
        self.state().ended = true;
        self.filled.notify_waiters();
        self.emptied.notify_waiters();
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
