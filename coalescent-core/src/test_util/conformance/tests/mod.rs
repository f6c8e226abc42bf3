//! Correct layers pass every check, and each check fails for a layer that is broken in that one
//! way.

mod broken;

use std::time::Duration;

use tower::ServiceBuilder;
use tower::buffer::BufferLayer;
use tower::filter::{AsyncFilterLayer, FilterLayer};
use tower::limit::{ConcurrencyLimitLayer, GlobalConcurrencyLimitLayer};
use tower::load_shed::LoadShedLayer;
use tower::retry::Policy;
use tower::spawn_ready::SpawnReadyLayer;
use tower::timeout::TimeoutLayer;

use self::broken::{How, broken};
use super::{Check, Conformance, check};
use crate::error::BoxError;
use crate::frame::Frame;
use crate::stack::reply::Reply;
use crate::test_util;
use crate::wire::Kind;

/// Runs all checks on a layer that is broken in this way, and returns the failure.
async fn complaint(how: How) -> String {
    let run = std::panic::AssertUnwindSafe(async {
        let conformance = Conformance::new(broken(how)).keeps(kept);
        conformance.check().await;
        conformance.check_clones().await;
    });
    match futures_util::FutureExt::catch_unwind(run).await {
        Ok(()) => "fine".into(),
        Err(panic) => crate::error::panic_text(&*panic).to_owned(),
    }
}

fn kept(_: u64) -> Frame {
    test_util::frame(Kind::Data, "for me")
}

#[tokio::test]
async fn each_check_can_fail() {
    use How::*;
    let cases = [
        (Not, "fine"),
        (
            AlwaysReady,
            "of ready first: what is inside was called without",
        ),
        (
            ReadyOnce,
            "of ready first: what is inside was called without",
        ),
        (NeverReady, "of ready first: it does not become ready"),
        (HidesReadyError, "of readiness: `poll_ready` does not fail"),
        (LosesReadyWaker, "of readiness: its task is not woken"),
        (LosesCallWaker, "of replies: its task is not woken"),
        (
            CallsAClone,
            "of ready first: what is inside was called without",
        ),
        (
            LeavesReadyBehind,
            "of ready first: a frame that it was to let through",
        ),
        (KeepsThePermit, "of kept frames: a permit is held"),
        (
            NeverCalls,
            "of ready first: a frame that it was to let through",
        ),
        (
            CallsTwice,
            "of ready first: what is inside was called without",
        ),
        (
            HidesErrors,
            "of errors: an error of what is inside came out as a reply",
        ),
        (
            HidesReplies,
            "of replies: the reply of what is inside came out as",
        ),
        (Spawns, "of cancel: the call inside goes on"),
        (Detaches, "of replies: a call is done before"),
        (
            ReadyClones,
            "of ready first: what is inside was called without",
        ),
    ];
    for (how, expected) in cases {
        let said = complaint(how).await;
        assert!(said.contains(expected), "{how:?}: {said}");
    }
}

#[tokio::test]
async fn a_check_that_is_left_out_is_not_made() {
    let replaced = Conformance::new(broken(How::HidesReplies));
    replaced.without(Check::Replies).check().await;
    let handled = Conformance::new(broken(How::HidesErrors));
    handled.without(Check::Errors).check().await;
    let detached = Conformance::new(broken(How::Spawns));
    detached
        .without(Check::Cancel)
        .without(Check::Permits)
        .check()
        .await;
}

#[derive(Clone)]
struct Never;

impl Policy<Frame, Reply, BoxError> for Never {
    type Future = std::future::Ready<()>;

    fn retry(
        &mut self,
        _: &mut Frame,
        _: &mut Result<Reply, BoxError>,
    ) -> Option<std::future::Ready<()>> {
        None
    }

    fn clone_request(&mut self, frame: &Frame) -> Option<Frame> {
        Some(frame.clone())
    }
}

#[tokio::test]
#[should_panic(expected = "check of kept frames: a permit is held although a frame was kept")]
async fn towers_filter_keeps_the_permit_of_what_it_refuses() {
    let none = FilterLayer::new(|frame: Frame| match frame.kind() {
        Kind::Data => Err(BoxError::from("not for all")),
        _ => Ok(frame),
    });
    Conformance::new(none).keeps(kept).check().await;
}

#[tokio::test]
async fn towers_own_layers_pass() {
    check(tower_layer::Identity::new()).await;
    check(TimeoutLayer::new(Duration::from_secs(1))).await;
    check(ConcurrencyLimitLayer::new(1)).await;
    check(GlobalConcurrencyLimitLayer::new(1)).await;
    check(
        ServiceBuilder::new()
            .retry(Never)
            .map_err(BoxError::from)
            .into_inner(),
    )
    .await;
    check(SpawnReadyLayer::new()).await;

    let only_broadcasts = |frame: Frame| {
        if frame.is_broadcast() {
            Ok(frame)
        } else {
            Err(BoxError::from("not for all"))
        }
    };
    let filtered = Conformance::new(FilterLayer::new(only_broadcasts));
    filtered.check().await;
    filtered.check_clones().await;
    let filtered = Conformance::new(AsyncFilterLayer::new(move |frame| async move {
        tokio::task::yield_now().await;
        only_broadcasts(frame)
    }))
    .keeps(kept);
    filtered.check().await;
    filtered.check_clones().await;

    // Ready when the layer has room, whether the inner service is ready or not.
    let shed = Conformance::new(LoadShedLayer::new()).without(Check::Readiness);
    shed.check().await;
    let buffered = Conformance::new(BufferLayer::new(4)).without(Check::Readiness);
    buffered.check().await;
}
