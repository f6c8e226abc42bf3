//! The read side of the mesh: where frames come out that went through the stack.

pub(crate) mod frames;

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;
use tower_service::Service;

use crate::error::Error;
use crate::frame::in_flight::ReadBatch;
use crate::frame::{Frame, call as current};
use crate::node::{Node, Peers};
use crate::stack::reply::Reply;
use crate::wire::Head;

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
/// Frames come in many at a time, and go out likewise: neither a reader nor a connection takes the
/// lock for each.
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
    last: Option<(usize, u64)>,
    /// Lists that were read, for the connections to fill again.
    empty: Vec<Heads>,
}

/// The read side of a node, as one of the values that the node's peers share.
#[derive(Clone)]
struct ReadSide(Arc<Queue>);

impl Queue {
    /// Returns the read side of a node, which is made when it is first asked for.
    pub(crate) fn of(node: &Node) -> Arc<Self> {
        let limit = node.config().inbox;
        node.get_or_share(|| ReadSide(Arc::new(Self::new(limit)))).0
    }

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

    /// Takes frames in, as many as there is room for; what is left in `frames` then has found none.
    /// Returns an empty list of heads, if there is one to be filled again.
    pub(crate) fn offer(&self, frames: &mut VecDeque<Kept>) -> Option<Heads> {
        if frames.is_empty() {
            return None;
        }
        let mut state = self.state();
        if state.readers == 0 || state.ended {
            drop(state);
            frames.clear();
            return None;
        }
        while let Some(mut kept) = frames.pop_front() {
            let shares = state.last == Some(kept.buffer) && !state.frames.is_empty();
            let buffer_len = if shares { 0 } else { kept.buffer_len };
            kept.cost = kept.len() * FRAME_COST + kept.rewritten + buffer_len;
            // Some frames always find room, however small the limit, and however much readers have
            // taken and not given back.
            if state.used + kept.cost > self.limit && !state.frames.is_empty() {
                frames.push_front(kept);
                break;
            }
            state.last = Some(kept.buffer);
            state.used += kept.cost;
            state.frames.push_back(kept);
        }
        let empty = state.empty.pop();
        if !state.wakers.is_empty() {
            let wakers = std::mem::take(&mut state.wakers);
            drop(state);
            wakers.into_iter().for_each(|(_, waker)| waker.wake());
        }
        empty
    }

    /// Takes frames in, waiting for room.
    ///
    /// # Cancel safety
    ///
    /// When dropped before it is done, the frames that found no room are still in `frames`.
    pub(crate) async fn push(&self, frames: &mut VecDeque<Kept>) {
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

    /// Gives back what `batch` has used up, and fills it anew. Ready with `false` when the mesh has
    /// ended and all was read.
    pub(crate) fn poll_fill(&self, batch: &mut Batch, cx: &mut Context<'_>) -> Poll<bool> {
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
    pub(crate) fn settle(&self, batch: &mut Batch) {
        if batch.freed >= self.limit / 4 {
            let mut state = self.state();
            let freed = std::mem::take(&mut batch.freed);
            state.used -= freed;
            self.made_room(state, freed);
        }
    }

    fn made_room(&self, state: MutexGuard<'_, State>, freed: usize) {
        // Also where nothing is left to read: what other readers have not given back must not keep
        // this one waiting for ever.
        let room = freed > 0 && state.used <= self.limit / 2 || state.frames.is_empty();
        let wake = state.waiting > 0 && room;
        drop(state);
        if wake {
            self.emptied.notify_waiters();
        }
    }

    /// Counts one more reader; from the first on, frames are kept.
    pub(crate) fn open(&self) -> Batch {
        let mut state = self.state();
        state.readers += 1;
        self.readers.store(state.readers, Ordering::Release);
        state.next_reader += 1;
        Batch {
            reader: state.next_reader,
            first: None,
            rest: VecDeque::new(),
            empty: Vec::new(),
            freed: 0,
        }
    }

    /// Counts one reader less, and puts back what it did not read; without any, frames are
    /// discarded.
    pub(crate) fn close(&self, batch: &mut Batch) {
        let mut state = self.state();
        state.readers -= 1;
        self.readers.store(state.readers, Ordering::Release);
        state.used -= std::mem::take(&mut batch.freed);
        for kept in std::mem::take(&mut batch.rest).into_iter().rev() {
            state.frames.push_front(kept);
        }
        if let Some(first) = batch.first.take() {
            state.frames.push_front(first);
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

impl State {
    /// Takes out the oldest frames, for one of several readers.
    fn take_some(&mut self) -> Option<Kept> {
        let mut kept = self.frames.pop_front()?;
        if let Some(some) = kept.split(SHARED_BATCH) {
            self.frames.push_front(kept);
            return Some(some);
        }
        Some(kept)
    }
}

/// Where the frames of a block stand, and what they are.
pub(crate) type Heads = Vec<(usize, Head)>;

/// Frames that came together, from one buffer.
#[derive(Debug)]
pub(crate) struct Kept {
    frames: Held,
    buffer: (usize, u64),
    buffer_len: usize,
    /// The payloads that layers put in the place of those in the buffer.
    rewritten: usize,
    /// What they count for, once they are in the queue.
    cost: usize,
}

#[derive(Debug)]
enum Held {
    /// As they stand in their block.
    Block {
        arrival: Arc<ReadBatch>,
        heads: Heads,
        range: Range<usize>,
    },
    /// With what layers have made of them.
    Whole(VecDeque<Frame>),
}

/// [`Kept`] frames in the hands of who reads them: what is taken out is gone from there.
pub(crate) enum Lent<'a> {
    Block {
        arrival: &'a Arc<ReadBatch>,
        heads: &'a Heads,
        range: &'a mut Range<usize>,
    },
    Whole(&'a mut VecDeque<Frame>),
}

impl Kept {
    /// Keeps the frames of a block that `range` of its `heads` are.
    pub(crate) fn block(arrival: Arc<ReadBatch>, heads: Heads, range: Range<usize>) -> Self {
        Self {
            buffer: (arrival.link.place(), arrival.buffer),
            buffer_len: arrival.buffer_len.max(arrival.bytes.len()),
            frames: Held::Block {
                arrival,
                heads,
                range,
            },
            rewritten: 0,
            cost: 0,
        }
    }

    /// Keeps one frame as it is.
    pub(crate) fn whole(frame: Frame) -> Self {
        let (buffer, buffer_len) = frame.pinned();
        Self {
            rewritten: frame.rewritten_len(),
            frames: Held::Whole(VecDeque::from([frame])),
            buffer,
            buffer_len,
            cost: 0,
        }
    }

    /// Keeps all of `frames` as they are, if there are any and they are of the same buffer.
    pub(crate) fn all(frames: &mut VecDeque<Frame>) -> Option<Self> {
        let (buffer, buffer_len) = frames.front()?.pinned();
        let mut rewritten = 0;
        for frame in frames.iter() {
            if frame.pinned().0 != buffer {
                return None;
            }
            rewritten += frame.rewritten_len();
        }
        let room = VecDeque::with_capacity(frames.len());
        Some(Self {
            frames: Held::Whole(std::mem::replace(frames, room)),
            buffer,
            buffer_len,
            rewritten,
            cost: 0,
        })
    }

    /// Adds a frame to others of the same buffer; gives it back where it is of another.
    pub(crate) fn add(&mut self, frame: Frame) -> Option<Frame> {
        let (buffer, _) = frame.pinned();
        match &mut self.frames {
            Held::Whole(frames) if buffer == self.buffer => {
                self.rewritten += frame.rewritten_len();
                frames.push_back(frame);
            }
            _ => return Some(frame),
        }
        None
    }

    pub(crate) fn len(&self) -> usize {
        match &self.frames {
            Held::Block { range, .. } => range.len(),
            Held::Whole(frames) => frames.len(),
        }
    }

    #[inline]
    fn pop(&mut self) -> Option<Frame> {
        match &mut self.frames {
            Held::Block {
                arrival,
                heads,
                range,
            } => {
                let (offset, head) = heads.get(range.next()?)?;
                Some(Frame::of_block(Arc::clone(arrival), *offset, head))
            }
            Held::Whole(frames) => frames.pop_front(),
        }
    }

    pub(crate) fn lend(&mut self) -> Lent<'_> {
        match &mut self.frames {
            Held::Block {
                arrival,
                heads,
                range,
            } => Lent::Block {
                arrival,
                heads,
                range,
            },
            Held::Whole(frames) => Lent::Whole(frames),
        }
    }

    /// Splits the first `some` off, unless that is all. The buffer is counted for with the rest,
    /// which is read last; so is what was rewritten.
    fn split(&mut self, some: usize) -> Option<Self> {
        if self.len() <= some {
            return None;
        }
        let frames = match &mut self.frames {
            Held::Block {
                arrival,
                heads,
                range,
            } => {
                let first = range.start..range.start + some;
                range.start = first.end;
                let heads = heads.get(first).unwrap_or_default().to_vec();
                Held::Block {
                    arrival: Arc::clone(arrival),
                    range: 0..heads.len(),
                    heads,
                }
            }
            Held::Whole(frames) => {
                let rest = frames.split_off(some);
                Held::Whole(std::mem::replace(frames, rest))
            }
        };
        let cost = some * FRAME_COST;
        self.cost = self.cost.saturating_sub(cost);
        Some(Self {
            frames,
            buffer: self.buffer,
            buffer_len: self.buffer_len,
            rewritten: 0,
            cost,
        })
    }

    /// The list of heads, to be filled again.
    fn into_heads(self) -> Option<Heads> {
        match self.frames {
            Held::Block { mut heads, .. } => {
                heads.clear();
                Some(heads)
            }
            Held::Whole(_) => None,
        }
    }
}

/// Frames that one reader has taken and not read.
#[derive(Debug)]
pub(crate) struct Batch {
    reader: u64,
    first: Option<Kept>,
    rest: VecDeque<Kept>,
    /// Lists that were read.
    empty: Vec<Heads>,
    /// What the frames read so far counted for.
    freed: usize,
}

impl Batch {
    /// The next of the frames that came with the one before.
    #[inline]
    pub(crate) fn pop_again(&mut self) -> Option<Frame> {
        self.first.as_mut().and_then(Kept::pop)
    }

    pub(crate) fn pop(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.pop_again() {
                return Some(frame);
            }
            self.next()?;
        }
    }

    /// The frames that came together, of which there are some left.
    pub(crate) fn together(&mut self) -> Option<&mut Kept> {
        while self.first.as_ref().is_none_or(|first| first.len() == 0) {
            self.next()?;
        }
        self.first.as_mut()
    }

    fn next(&mut self) -> Option<()> {
        if let Some(read) = self.first.take() {
            self.freed += read.cost;
            if self.empty.len() < EMPTY_LISTS {
                self.empty.extend(read.into_heads());
            }
        }
        self.first = Some(self.rest.pop_front()?);
        Some(())
    }

    fn shrink(&mut self) {
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
/// memory. It is always ready. A call is done at once where the connection that read the frame
/// makes it, and it is that connection which waits for room, before it goes on reading; elsewhere
/// (in a task behind a buffer, say) it is the call that waits.
#[derive(Clone)]
pub struct Inbox {
    queue: Arc<Queue>,
}

impl Peers {
    /// Returns the innermost service of a stack for this node's peers; see [`Inbox`].
    #[must_use]
    pub fn inbox(&self) -> Inbox {
        Inbox {
            queue: Queue::of(self.node()),
        }
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
        if self.queue.is_read() {
            // In the connection's own call it is the connection that waits for room, once for many
            // frames.
            return InboxFuture(
                current::stage(frame)
                    .map(|frame| Box::pin(wait(Arc::clone(&self.queue), frame)) as Wait),
            );
        }
        let (link, seq) = frame.place();
        if !current::discarded(link, seq) {
            frame.peer().counters().add_delivered(1);
        }
        InboxFuture(None)
    }
}

/// Brings a frame to the read side that is not in a call of its connection's, behind those that
/// are.
async fn wait(queue: Arc<Queue>, frame: Frame) {
    frame.peer().counters().add_delivered(1);
    frame.unstaged().await;
    queue.push(&mut VecDeque::from([Kept::whole(frame)])).await;
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
        f.debug_tuple("Inbox").field(&self.queue).finish()
    }
}

impl fmt::Debug for InboxFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboxFuture")
            .field("waits", &self.0.is_some())
            .finish()
    }
}
