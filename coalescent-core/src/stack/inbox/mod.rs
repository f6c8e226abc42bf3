//! The read side of the mesh: where frames go that have passed the stack.
//!
//! | file | what it holds |
//! |---|---|
//! | this file | [`Inbox`], the innermost service of each stack |
//! | [`queue`] | `Queue`: the frames that wait to be read, of all connections of a node |
//! | [`diversion`] | `Diversion`: the frames of one peer, in a queue of its own |
//! | [`read_by`] | `ReadBy`: the frames that were marked for it, in a queue of its own |
//! | [`group`] | `FrameGroup`: frames of one read buffer, which the queue stores together |
//! | [`prefetch`] | `Prefetch`: what one reader has taken out of the queue and not read yet |
//! | [`frames`] | `Frames` and `FrameRef`: a group as a reader's caller sees it |
//!
//! A frame usually gets to the queue without a task or a wait of its own. The service stages it in
//! the [call scope](crate::frame::call), and the connection, once it has called the stack with all
//! frames of a read, offers what is staged as groups, and waits for room if there is none.

mod diversion;
pub(crate) mod frames;
mod group;
mod prefetch;
mod queue;
mod read_by;

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

pub(crate) use diversion::Diversion;
pub(crate) use group::{FrameGroup, Heads};
pub(crate) use prefetch::Prefetch;
pub(crate) use queue::Queue;
pub use read_by::{READ_BY_GRACE, ReadBy};
use tower_service::Service;

use crate::error::Error;
use crate::frame::{Frame, call};
use crate::node::Peers;
use crate::stack::reply::Reply;

/// How much each frame on the read side counts for, in bytes, in addition to the read buffer that
/// it keeps alive.
pub const FRAME_COST: usize = 256;

/// The innermost service of each stack: hands frames to the read side of the mesh.
///
/// Until somebody takes the read side with [`Mesh::reader`](crate::Mesh::reader), frames are
/// discarded here. From then on the read side holds up to [`Config::inbox`](crate::Config::inbox)
/// bytes. A reader that stops reading causes backpressure on the peers; memory does not grow.
///
/// The service is always ready. A call that the connection makes itself completes at once, and the
/// connection waits for room before it reads on from its socket. A call from elsewhere, such as a
/// task behind a buffer, waits for room itself.
///
/// ```
/// use coalescent::{App, BoxError, Frame, Inbox, transport::Memory};
/// use tower::layer::layer_fn;
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let network = Memory::new();
/// // A layer gets the inbox, or what other layers have made of it, and calls it with each frame
/// // that the application is to read.
/// let shout = layer_fn(|inbox: Inbox| {
///     inbox.map_request(|mut frame: Frame| {
///         let shouted = frame.payload().to_ascii_uppercase();
///         frame.set_payload(shouted);
///         frame
///     })
/// });
/// let alice = App::new().layer(shout).transport(network.clone()).listen("alice:1").await?;
/// let mut heard = alice.reader();
/// let bob = App::new().transport(network).start().await?;
/// bob.connect("alice:1").await?.send_payload("beep").await?;
/// assert_eq!(heard.next_frame().await.ok_or("it ended")?.payload(), b"BEEP");
/// # Ok(())
/// # }
/// ```
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
    fn call(&mut self, mut frame: Frame) -> InboxFuture {
        if let Some(read_by) = frame.take_extension::<ReadBy>() {
            frame.let_go();
            let waits = read_by.take(frame);
            return InboxFuture(waits.map(|waits| Box::pin(waits) as Delivering));
        }
        if self.queue.is_read() {
            frame.let_go();
            // A staged frame is the connection's: it waits for room, once for many frames.
            return InboxFuture(
                call::stage(frame)
                    .map(|frame| Box::pin(deliver(Arc::clone(&self.queue), frame)) as Delivering),
            );
        }
        let (connection, seq) = frame.key();
        if !call::note_discarded(connection, seq) {
            frame.peer().counters().add_delivered(1);
        }
        InboxFuture(None)
    }
}

/// Delivers a frame that its connection is not calling the stack with: after the frames that the
/// connection has staged, so that frames of one peer keep their order.
async fn deliver(queue: Arc<Queue>, frame: Frame) {
    frame.peer().counters().add_delivered(1);
    frame.read_batch().in_flight.until_unstaged().await;
    let queue = queue.diverted_for(frame.peer()).unwrap_or(queue);
    queue
        .push(&mut VecDeque::from([FrameGroup::whole(frame)]))
        .await;
}

/// The response future of [`Inbox`].
pub struct InboxFuture(Option<Delivering>);

type Delivering = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Future for InboxFuture {
    type Output = Result<Reply, Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            None => Poll::Ready(Ok(Reply::None)),
            Some(delivering) => delivering.as_mut().poll(cx).map(|()| Ok(Reply::None)),
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
