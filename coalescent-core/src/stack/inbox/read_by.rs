//! Read sides apart from that of the mesh: frames go there that a layer or a plugin has marked.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use tokio::time::timeout;

use super::group::FrameGroup;
use super::queue::Queue;
use crate::frame::{Frame, call};
use crate::reason::DropReason;

/// How long a frame waits at most for room in a read side apart from that of the mesh: 250 ms.
pub const READ_BY_GRACE: Duration = Duration::from_millis(250);

/// A bounded read side of its own. A frame with this value among its [extensions] goes there from
/// the [`Inbox`](crate::Inbox), in place of the read side of the mesh or of its peer.
///
/// Handlers, relays and requests are before the read side, and not affected.
///
/// # When it is full
///
/// A call whose frame finds no room waits for it, and holds the peer back as any call that waits
/// does, for at most [`READ_BY_GRACE`]. Then the frame is dropped, and counted as
/// [`DropReason::Unread`] for the peer that sent it. From then on frames without room are dropped
/// at once, until the reader has taken some: so a reader that has stopped delays nothing else of
/// the same peers for long. Without a reader, frames are discarded, as in the mesh; so is what
/// finds no room as long as no reader has ever asked for a frame.
///
/// ```
/// use coalescent::{Frame, ReadBy};
/// use tower::util::MapRequestLayer;
///
/// let urgent = ReadBy::new(64 * 1024);
/// let mut reader = urgent.reader();
/// // Frames that begin with an exclamation mark are read apart from the others.
/// let layer = MapRequestLayer::new(move |mut frame: Frame| {
///     if frame.payload().first() == Some(&b'!') {
///         frame.extensions_mut().insert(urgent.clone());
///     }
///     frame
/// });
/// # let _ = coalescent::App::new().layer(layer);
/// # assert!(reader.try_next_frame().is_none());
/// ```
///
/// [extensions]: crate::Frame::extensions_mut
#[derive(Clone)]
pub struct ReadBy(Arc<Shared>);

struct Shared {
    queue: Arc<Queue>,
    /// Whether a frame has waited in vain, and none has found room since.
    stalled: AtomicBool,
    dropped: AtomicU64,
}

impl ReadBy {
    /// Makes a read side that holds at most `limit` bytes. Each frame counts
    /// [`FRAME_COST`](crate::FRAME_COST) in addition to the memory that it keeps alive. An empty
    /// one takes one frame, whatever the limit.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Shared {
            queue: Arc::new(Queue::new(limit)),
            stalled: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
        }))
    }

    /// Returns how many frames found no room in time.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Relaxed)
    }

    /// Takes no more frames. Readers end when they have read what is there.
    pub fn end(&self) {
        self.0.queue.end();
    }

    pub(crate) fn queue(&self) -> &Arc<Queue> {
        &self.0.queue
    }

    /// Takes a frame if there is room, or nobody reads. Otherwise returns what waits for room.
    pub(super) fn take(self, frame: Frame) -> Option<impl Future<Output = ()> + Send + use<>> {
        let peer = frame.peer().clone();
        let (connection, seq) = frame.key();
        let mut group = VecDeque::from([FrameGroup::whole(frame)]);
        // Behind those that wait already.
        if !self.0.queue.has_waiting() {
            self.0.queue.offer(&mut group);
        }
        if !group.is_empty() && !self.0.queue.was_asked() {
            group.clear();
        }
        if group.is_empty() {
            self.0.stalled.store(false, Relaxed);
            if !call::note_taken(connection, seq) {
                peer.counters().add_delivered(1);
            }
            return None;
        }
        let shared = self.0;
        Some(async move {
            let stalled = shared.stalled.load(Relaxed);
            let pushed = !stalled && {
                let push = shared.queue.push(&mut group);
                timeout(READ_BY_GRACE, push).await.is_ok()
            };
            if pushed {
                peer.counters().add_delivered(1);
            } else {
                shared.stalled.store(true, Relaxed);
                shared.dropped.fetch_add(1, Relaxed);
                peer.dropped(DropReason::Unread, 1);
            }
        })
    }
}

impl fmt::Debug for ReadBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadBy")
            .field("queue", &self.0.queue)
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}
