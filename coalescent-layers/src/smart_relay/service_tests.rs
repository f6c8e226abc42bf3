use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coalescent_core::wire::Kind;
use coalescent_core::{Config, Error, Flow, Peers, Plugin, test_util};
use tokio::sync::Mutex;
use tokio::time::advance;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::{ServiceExt, service_fn};
use tower_layer::Layer;
use tower_test::mock;

use super::*;
use crate::SmartRelay;

fn nonced(nonce: u64) -> Kind {
    Kind::Broadcast { nonce }
}

/// A handler that records the payloads of its frames.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<Bytes>>>);

impl Heard {
    /// Takes the payloads recorded since the last call.
    async fn take(&self) -> Vec<Bytes> {
        std::mem::take(&mut *self.0.lock().await)
    }

    fn layered(
        &self,
        relay: &SmartRelay,
    ) -> impl Service<Frame, Response = Reply, Error = Error> + use<> {
        let heard = self.0.clone();
        relay.layer(service_fn(move |frame: Frame| {
            let heard = heard.clone();
            async move {
                heard.lock().await.push(frame.payload_bytes());
                Ok(Reply::Payload("heard".into()))
            }
        }))
    }
}

async fn call<S>(stack: &mut S, kind: Kind, payload: &'static str) -> (Frame, Reply)
where
    S: Service<Frame, Response = Reply, Error = Error>,
{
    let frame = test_util::frame(kind, payload);
    let ready = stack.ready().await.unwrap();
    let reply = ready.call(frame.clone()).await.unwrap();
    (frame, reply)
}

#[tokio::test(start_paused = true)]
async fn a_copy_from_any_peer_is_counted_and_suppressed() {
    let (relay, heard) = (SmartRelay::new(), Heard::default());
    let (mut one, mut other) = (heard.layered(&relay), heard.layered(&relay.clone()));

    let (first, reply) = call(&mut one, nonced(1), "beep").await;
    assert!(matches!(reply, Reply::Payload(_)));
    assert_eq!(test_util::relayed(&first).unwrap().flow, Flow::Drop);
    assert_eq!(first.peer().stats().duplicates, 0);

    for stack in [&mut one, &mut other] {
        let (copy, reply) = call(stack, nonced(1), "beep").await;
        assert!(reply.is_none());
        assert_eq!(test_util::relayed(&copy), None);
        assert_eq!(copy.peer().stats().duplicates, 1);
    }
    assert_eq!(heard.take().await, ["beep"]);

    // Equal bytes with another nonce are another frame, and so are other bytes with the same nonce.
    call(&mut other, nonced(2), "beep").await;
    call(&mut other, nonced(1), "boop").await;
    assert_eq!(heard.take().await, ["beep", "boop"]);

    // Another relay is another node.
    call(&mut heard.layered(&SmartRelay::new()), nonced(1), "beep").await;
    assert_eq!(heard.take().await, ["beep"]);
}

#[tokio::test(start_paused = true)]
async fn frames_are_copies_for_five_seconds_by_content_and_two_minutes_by_nonce() {
    let (relay, heard) = (SmartRelay::new(), Heard::default());
    let (mut one, mut other) = (heard.layered(&relay), heard.layered(&relay));
    call(&mut one, Kind::Plain, "line").await;
    call(&mut one, nonced(1), "beep").await;
    assert_eq!(heard.take().await.len(), 2);
    for (wait, kind, expected) in [
        (4_999, Kind::Plain, 0),
        (1, Kind::Plain, 1),
        (114_999, nonced(1), 0),
        (1, nonced(1), 1),
    ] {
        advance(Duration::from_millis(wait)).await;
        let payload = if kind == Kind::Plain { "line" } else { "beep" };
        call(&mut other, kind, payload).await;
        assert_eq!(heard.take().await.len(), expected, "after {wait} ms more");
    }

    let relay = SmartRelay::new()
        .window(Duration::from_secs(2))
        .content_window(Duration::from_secs(1));
    let (mut one, mut other) = (heard.layered(&relay), heard.layered(&relay));
    call(&mut one, Kind::Plain, "line").await;
    call(&mut one, nonced(1), "beep").await;
    heard.take().await;
    for (wait, kind, expected) in [
        (999, Kind::Plain, 0),
        (1, Kind::Plain, 1),
        (999, nonced(1), 0),
        (1, nonced(1), 1),
    ] {
        advance(Duration::from_millis(wait)).await;
        let payload = if kind == Kind::Plain { "line" } else { "beep" };
        call(&mut other, kind, payload).await;
        assert_eq!(heard.take().await.len(), expected, "after {wait} ms more");
    }
}

/// On a wire without nonces, equal frames of one connection are separate frames.
#[tokio::test(start_paused = true)]
async fn equal_lines_of_one_connection_are_separate_frames() {
    let relay = SmartRelay::new().repeats(10);
    let heard = Heard::default();
    let (mut one, mut other) = (heard.layered(&relay), heard.layered(&relay));
    for said in 0..20 {
        let (line, _) = call(&mut one, Kind::Plain, "OK").await;
        assert_eq!(test_util::relayed(&line).is_some(), said < 10);
    }
    assert_eq!(heard.take().await.len(), 10);
    for _ in 0..20 {
        let (copy, _) = call(&mut other, Kind::Plain, "OK").await;
        assert_eq!(copy.peer().stats().duplicates, 1);
    }
    assert_eq!(heard.take().await.len(), 0);
}

#[tokio::test]
async fn frames_sent_to_this_node_only_are_never_copies() {
    let heard = Heard::default();
    for (relay, direct) in [
        (SmartRelay::new(), false),
        (SmartRelay::new().direct(true), true),
    ] {
        let mut stack = heard.layered(&relay);
        for _ in 0..2 {
            let (frame, _) = call(&mut stack, Kind::Data, "beep").await;
            assert_eq!(test_util::relayed(&frame).is_some(), direct);
            let (frame, _) = call(&mut stack, Kind::Request { id: 1 }, "beep").await;
            assert_eq!(
                test_util::relayed(&frame),
                None,
                "requests are never relayed"
            );
        }
        assert_eq!(heard.take().await.len(), 4);
        assert_eq!(relay.seen().identities, 0);
    }
}

#[tokio::test]
async fn frames_that_this_node_sends_are_in_the_set() {
    let relay = SmartRelay::new();
    let peers = Peers::with_plugins(Config::default(), [&relay as &dyn Plugin]);
    let _ = peers.broadcast_payload("beep").await.unwrap();
    assert_eq!(relay.seen().identities, 1);

    // A relay that is not registered as a plugin does not learn of own broadcasts.
    let relay = SmartRelay::new();
    let _ = Peers::new(Config::default())
        .broadcast_payload("beep")
        .await
        .unwrap();
    assert_eq!(relay.seen().identities, 0);
}

/// Returns nonces so far apart that each takes a page of its own.
fn far(number: u64) -> Kind {
    nonced(number << 20)
}

#[tokio::test]
async fn a_full_set_evicts_the_oldest_frame_if_no_copies_arrive() {
    let (relay, heard) = (SmartRelay::new().capacity(100), Heard::default());
    let mut stack = heard.layered(&relay);
    for number in 1..=1000 {
        call(&mut stack, nonced(number), "beep").await;
    }
    let seen = relay.seen();
    assert!(
        seen.identities < 320 && seen.evicted_young > 600,
        "{seen:?}"
    );
    assert!(seen.bytes > 0 && seen.bytes <= 100 * 32, "{seen:?}");
    assert_eq!(heard.take().await.len(), 1000);
    call(&mut stack, nonced(1000), "beep").await;
    assert_eq!(heard.take().await.len(), 0, "the newest is remembered");
    call(&mut heard.layered(&relay), nonced(1), "beep").await;
    assert_eq!(heard.take().await.len(), 1, "the oldest is not");
}

/// Honest nodes use consecutive nonces; an attacker may spread them to flush the set.
#[tokio::test(start_paused = true)]
async fn scattered_nonces_do_not_evict_other_frames() {
    let (relay, heard) = (SmartRelay::new().capacity(600), Heard::default());
    let mut stack = heard.layered(&relay);
    let begun = tokio::time::Instant::now();
    for number in 1..=200 {
        call(&mut stack, far(number), "beep").await;
    }
    let said = heard.take().await.len();
    assert!((40..60).contains(&said), "{said}");
    assert_eq!(relay.seen().refused, 200 - said as u64);
    // The connection was held back for 5 s before its frames were refused.
    assert_eq!(begun.elapsed().as_secs(), 5);
    call(&mut stack, far(1), "beep").await;
    assert_eq!(heard.take().await.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_set_refuses_new_frames_while_copies_arrive() {
    let (relay, heard) = (SmartRelay::new().capacity(600), Heard::default());
    let (mut one, mut other) = (heard.layered(&relay), heard.layered(&relay));
    for stack in [&mut one, &mut other] {
        call(stack, far(1), "beep").await;
    }
    heard.take().await;
    let mut refused = 0;
    for number in 2..200 {
        let (frame, reply) = call(&mut other, far(number), "beep").await;
        let relayed = test_util::relayed(&frame).is_some();
        assert_eq!(reply.is_none(), !relayed);
        assert_eq!(frame.peer().stats().dropped, u64::from(!relayed));
        refused += u64::from(!relayed);
    }
    assert!(refused > 0);
    assert_eq!(relay.seen().refused, refused);
    assert_eq!(heard.take().await.len() as u64, 198 - refused);
    // No frame is delivered twice, and refused frames are still refused.
    for number in 1..200 {
        call(&mut other, far(number), "beep").await;
    }
    assert_eq!(heard.take().await.len(), 0);
    // Expired frames make room again.
    advance(Duration::from_secs(120)).await;
    call(&mut other, far(300), "beep").await;
    assert_eq!(heard.take().await.len(), 1);
}

/// A connection that only publishes waits for room and loses nothing.
#[tokio::test(start_paused = true)]
async fn a_publisher_is_held_back_while_copies_arrive_from_others() {
    let (relay, heard) = (SmartRelay::new().capacity(600), Heard::default());
    let (mut one, mut other) = (heard.layered(&relay), heard.layered(&relay));
    let full = 46;
    let mut said = 0;
    // Fill the set within 28 s, then send as much again: the first frames may be evicted after 30
    // s.
    for number in 1..=full {
        call(&mut one, far(number), "beep").await;
        let (copy, _) = call(&mut other, far(number), "beep").await;
        assert_eq!(copy.peer().stats().duplicates, 1);
        advance(Duration::from_millis(28_000 / full)).await;
        said += 1;
    }
    let begun = tokio::time::Instant::now();
    for number in full + 1..=2 * full {
        let (frame, _) = call(&mut one, far(number), "beep").await;
        assert_eq!(frame.peer().stats().dropped, 0);
        said += 1;
    }
    assert_eq!(heard.take().await.len() as u64, said);
    assert_eq!(relay.seen().refused, 0);
    assert!(
        begun.elapsed() > Duration::from_secs(20),
        "it went at the pace of the first"
    );
}

#[tokio::test]
async fn relay_after_relays_accepted_frames_only_and_remembers_rejected_ones() {
    let relay = SmartRelay::new().relay_after();
    let layer = tower_layer::layer_fn(|inner| relay.layer(inner));
    let (mut stack, mut handle) = mock::spawn_layer::<Frame, Reply, _>(layer);
    for (nonce, accept) in [(1, true), (2, false)] {
        let frame = test_util::frame(nonced(nonce), "beep");
        assert!(stack.poll_ready().is_ready());
        let mut first = tokio_test::task::spawn(stack.call(frame.clone()));
        assert!(first.poll().is_pending());
        assert_eq!(test_util::relayed(&frame), None);

        // A copy arrives while the first frame is being handled.
        assert!(stack.poll_ready().is_ready());
        let copy = stack.call(test_util::frame(nonced(nonce), "beep")).await;
        assert!(copy.unwrap().is_none());

        let (_, answer) = handle.next_request().await.unwrap();
        if accept {
            answer.send_response(Reply::None);
        } else {
            answer.send_error("refused");
        }
        assert_eq!(first.await.is_ok(), accept);
        assert_eq!(test_util::relayed(&frame).is_some(), accept);

        assert!(stack.poll_ready().is_ready());
        let copy = stack.call(test_util::frame(nonced(nonce), "beep")).await;
        assert!(copy.unwrap().is_none());
    }
}

#[tokio::test]
async fn readiness_is_that_of_the_inner_service_and_the_ready_one_is_called() {
    let relay = SmartRelay::new();
    let layer = tower_layer::layer_fn(|inner| relay.layer(inner));
    let (mut stack, mut handle) = mock::spawn_layer::<Frame, Reply, _>(layer);
    handle.allow(0);
    assert!(stack.poll_ready().is_pending());
    handle.allow(1);
    assert!(stack.is_woken());
    assert!(stack.poll_ready().is_ready());
    // The mock panics if a clone is called that was not made ready.
    let first = tokio_test::task::spawn(stack.call(test_util::frame(nonced(1), "beep")));
    let (_, answer) = handle.next_request().await.unwrap();
    answer.send_error("broken");
    assert_eq!(first.await.unwrap_err().to_string(), "broken");

    // A copy returns the permit, and the next frame must acquire it again.
    handle.allow(1);
    assert!(stack.poll_ready().is_ready());
    let copy = stack.call(test_util::frame(nonced(1), "beep")).await;
    assert!(copy.unwrap().is_none());
    handle.allow(0);
    assert!(stack.poll_ready().is_pending());
    handle.allow(1);
    assert!(stack.poll_ready().is_ready());
    handle.send_error("gone");
    let Poll::Ready(Err(error)) = stack.poll_ready() else {
        panic!("the error of the inner service is passed on");
    };
    assert_eq!(error.to_string(), "gone");
}

#[tokio::test]
async fn a_copy_returns_the_permit_that_other_peers_wait_for() {
    let relay = SmartRelay::new();
    let limit = GlobalConcurrencyLimitLayer::new(1);
    let handler = service_fn(async |_: Frame| Ok::<_, Error>(Reply::None));
    let mut one = tokio_test::task::spawn(relay.layer(limit.layer(handler)));
    let mut other = tokio_test::task::spawn(relay.layer(limit.layer(handler)));

    for duplicates in [0, 1] {
        assert!(one.enter(|cx, mut one| one.poll_ready(cx)).is_ready());
        assert!(
            other
                .enter(|cx, mut other| other.poll_ready(cx))
                .is_pending()
        );
        let frame = test_util::frame(nonced(1), "beep");
        one.call(frame.clone()).await.unwrap();
        assert_eq!(frame.peer().stats().duplicates, duplicates);
        // The permit is free although `one` is not called again.
        assert!(other.enter(|cx, mut other| other.poll_ready(cx)).is_ready());
        other.call(test_util::frame(Kind::Data, "")).await.unwrap();
    }
}
