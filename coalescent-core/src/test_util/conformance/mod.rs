//! Checks that a layer obeys the rules that tower makes for every service, and coalescent for its
//! layers.
//!
//! Each check wraps a [`Probe`] in the layer. The probe has one permit, so it is ready for one call
//! at a time, like a stack inside of a limit that all peers share. A layer that loses the permit,
//! or calls without it, passes a simple test but starves other peers in a mesh.
//!
//! ```
//! use coalescent::test_util::conformance;
//! use coalescent::{Frame, Reply};
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
//! use std::task::{Context, Poll};
//! use tower::{Service, layer::layer_fn};
//!
//! /// Counts frames, and passes them on.
//! #[derive(Clone)]
//! struct Counted<S> {
//!     inner: S,
//!     // Shared by the clones of one peer's service: some layers call clones.
//!     frames: Arc<AtomicU64>,
//! }
//!
//! impl<S: Service<Frame, Response = Reply>> Service<Frame> for Counted<S> {
//!     type Response = Reply;
//!     type Error = S::Error;
//!     type Future = S::Future;
//!
//!     fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
//!         self.inner.poll_ready(cx)
//!     }
//!
//!     fn call(&mut self, frame: Frame) -> S::Future {
//!         self.frames.fetch_add(1, Relaxed);
//!         self.inner.call(frame)
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! // In a test of its own: #[tokio::test] async fn counted_is_a_good_layer() { … }
//! conformance::check(layer_fn(|inner| Counted { inner, frames: Arc::default() })).await;
//! # }
//! ```
//!
//! Layers that keep some frames, or that deviate from one rule on purpose, say so:
//!
//! ```
//! use coalescent::test_util::conformance::{Check, Conformance};
//! # use coalescent::{test_util, wire::Kind};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use tower::{BoxError, filter::AsyncFilterLayer, load_shed::LoadShedLayer};
//!
//! let small = AsyncFilterLayer::new(|frame: coalescent::Frame| async {
//!     if frame.payload().len() < 100 { Ok(frame) } else { Err(BoxError::from("too large")) }
//! });
//! Conformance::new(small)
//!     .keeps(|_| test_util::frame(Kind::Data, vec![0; 100]))
//!     .check()
//!     .await;
//!
//! // It is always ready, and fails calls while the inner service is not: that is its purpose.
//! Conformance::new(LoadShedLayer::new()).without(Check::Readiness).check().await;
//! # }
//! ```
//!
//! The checks let all other tasks run before they look at the result: run them on a current-thread
//! runtime, as `#[tokio::test]` does. They do not wait for time to pass, so check a layer that
//! delays frames with a delay of zero.

mod bench;
mod checks;
mod probe;
#[cfg(test)]
mod tests;

use std::fmt;

use bench::finish;
pub use probe::{Probe, ProbeError, ProbeFuture};
use tower_layer::Layer;
use tower_service::Service;

use super::{frame_from, peer};
use crate::config::Config;
use crate::error::BoxError;
use crate::frame::Frame;
use crate::message::Message;
use crate::message::codec::Codec;
use crate::node::Peers;
use crate::stack::reply::Reply;
use crate::wire::Kind;

/// How often all other tasks may run before an expected event counts as missing.
const TURNS: usize = 64;

/// Runs every check that needs only the layer; see [`Conformance::check`].
///
/// # Panics
///
/// Panics if the layer fails a check, with what it did, and what it should do.
pub async fn check<L>(layer: L)
where
    L: Layer<Probe>,
    L::Service: Service<Frame, Response = Reply, Error: Into<BoxError>>,
{
    Conformance::new(layer).check().await;
}

/// A rule that layers are checked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Check {
    /// The layer is ready when the inner service is, wakes its task then, and fails when that
    /// fails.
    Readiness,
    /// The layer calls only the instance that it polled to readiness, once per readiness.
    ReadyFirst,
    /// No permit is held that no call needs any more.
    Permits,
    /// A frame that the layer keeps releases the permit, and the next frame is handled.
    Kept,
    /// Dropping the layer's response future cancels the inner call, whenever it is dropped.
    Cancel,
    /// An error of the inner service is returned, and the next frame is handled.
    Errors,
    /// A reply of the inner service wakes the waiting task, and is returned unchanged.
    Replies,
    /// A clone of a ready service is not ready itself.
    Clones,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Readiness => "readiness",
            Self::ReadyFirst => "ready first",
            Self::Permits => "permits",
            Self::Kept => "kept frames",
            Self::Cancel => "cancel",
            Self::Errors => "errors",
            Self::Replies => "replies",
            Self::Clones => "clones",
        })
    }
}

type Frames = Box<dyn Fn(u64) -> Frame>;

/// A layer to check, with its properties.
///
/// ```
/// use std::time::Duration;
///
/// use coalescent::test_util::conformance::{Check, Conformance};
/// use tower::limit::ConcurrencyLimitLayer;
/// use tower::timeout::TimeoutLayer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// Conformance::new(TimeoutLayer::new(Duration::from_secs(60))).check().await;
/// Conformance::new(ConcurrencyLimitLayer::new(1)).without(Check::Permits).check().await;
/// # }
/// ```
#[must_use = "nothing is checked until `check` is called"]
pub struct Conformance<L> {
    layer: L,
    frames: Frames,
    keeps: Option<Frames>,
    without: Vec<Check>,
}

impl<L> Conformance<L> {
    /// Prepares the checks of `layer`. The frames are broadcasts of different MessagePack messages.
    pub fn new(layer: L) -> Self {
        let from = peer(&Peers::new(Config::default()));
        Self {
            layer,
            frames: Box::new(move |number| {
                let message = Message::new("conformance", &number);
                let payload = Codec::msgpack().encode(&message).unwrap_or_default();
                frame_from(&from, Kind::Broadcast { nonce: number }, payload)
            }),
            keeps: None,
            without: Vec::new(),
        }
    }

    /// Uses these frames, which the layer must let through. `frame` is called with a new number
    /// each time.
    pub fn frames(mut self, frame: impl Fn(u64) -> Frame + 'static) -> Self {
        self.frames = Box::new(frame);
        self
    }

    /// Also uses these frames, which the layer must keep from the inner service, by an answer or an
    /// error of its own. Without them, [`Check::Kept`] is skipped.
    pub fn keeps(mut self, frame: impl Fn(u64) -> Frame + 'static) -> Self {
        self.keeps = Some(Box::new(frame));
        self
    }

    /// Skips a check, for layers that deviate from it on purpose.
    pub fn without(mut self, check: Check) -> Self {
        self.without.push(check);
        self
    }
}

impl<L> Conformance<L>
where
    L: Layer<Probe>,
    L::Service: Service<Frame, Response = Reply, Error: Into<BoxError>>,
{
    /// Runs all checks except [`Check::Clones`].
    ///
    /// # Panics
    ///
    /// Panics if the layer fails a check, with what it did, and what it should do.
    pub async fn check(&self) {
        // The simplest checks first, so that the failure reported is the cause.
        self.ready_first().await;
        self.readiness().await;
        self.replies().await;
        self.errors().await;
        self.cancel().await;
        self.permits().await;
        self.kept().await;
    }

    /// Runs [`Check::Clones`].
    ///
    /// # Panics
    ///
    /// Panics if the layer fails the check.
    pub async fn check_clones(&self)
    where
        L::Service: Clone,
    {
        let Some(mut bench) = self.bench(Check::Clones) else {
            return;
        };
        let mut clone = bench.service.clone();
        bench.must_be_ready("before it was called").await;
        let mut second = bench.service.clone();
        std::mem::swap(&mut bench.service, &mut second);
        // The ready instance is in `second` now, and holds the permit.
        let ready = bench.ready().await;
        if matches!(ready, Some(Ok(()))) {
            let mut call = bench.call();
            let _ = finish(&mut call).await;
            bench.check_unready();
            bench.fail(
                "a clone of a ready service is ready although the only permit is taken",
                "keep what readiness brought out of `Clone`",
            );
        }
        drop(second);
        bench
            .must_be_ready("although the service that was ready is gone")
            .await;
        bench.must_handle().await;
        std::mem::swap(&mut bench.service, &mut clone);
        bench.must_be_ready("as an older clone").await;
        bench.must_handle().await;
    }
}

impl<L> fmt::Debug for Conformance<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conformance")
            .field("keeps", &self.keeps.is_some())
            .field("without", &self.without)
            .finish_non_exhaustive()
    }
}
