use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use coalescent_core::{Config, Error, Peers, Plugin, test_util, wire::Kind};
use tokio::{sync::Mutex, time::advance};
use tower::{ServiceExt, limit::GlobalConcurrencyLimitLayer, service_fn};
use tower_layer::Layer;
use tower_test::mock;

use super::*;

fn nonced(nonce: u64) -> Kind {
    Kind::Broadcast { nonce }
}

/// Handles frames, and remembers their payloads.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<Bytes>>>);

impl Heard {
    /// Takes what was heard since the last time.
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
async fn a_copy_is_counted_and_ends_here_whoever_it_comes_from() {
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

    // Equal bytes with another nonce are another frame, and so are other bytes.
    call(&mut other, nonced(2), "beep").await;
    call(&mut other, nonced(1), "boop").await;
    assert_eq!(heard.take().await, ["beep", "boop"]);

    // Another relay is another node.
    call(&mut heard.layered(&SmartRelay::new()), nonced(1), "beep").await;
    assert_eq!(heard.take().await, ["beep"]);
}

#[tokio::test(start_paused = true)]
async fn content_alone_is_a_copy_for_five_seconds_and_a_nonce_for_two_minutes() {
    let (relay, heard) = (SmartRelay::new(), Heard::default());
    let mut stack = heard.layered(&relay);
    for (wait, expected) in [(0, 1), (4999, 0), (1, 1)] {
        advance(Duration::from_millis(wait)).await;
        call(&mut stack, Kind::Plain, "line").await;
        assert_eq!(heard.take().await.len(), expected, "after {wait} ms more");
    }
    for (wait, expected) in [(0, 1), (119_999, 0), (1, 1)] {
        advance(Duration::from_millis(wait)).await;
        call(&mut stack, nonced(1), "beep").await;
        assert_eq!(heard.take().await.len(), expected, "after {wait} ms more");
    }

    let relay = SmartRelay::new()
        .window(Duration::from_secs(2))
        .content_window(Duration::from_secs(1));
    let mut stack = heard.layered(&relay);
    for (wait, kinds) in [(0, 2), (999, 0), (1, 1), (999, 0), (1, 2)] {
        advance(Duration::from_millis(wait)).await;
        call(&mut stack, Kind::Plain, "line").await;
        call(&mut stack, nonced(1), "beep").await;
        assert_eq!(heard.take().await.len(), kinds, "after {wait} ms more");
    }
}

#[tokio::test]
async fn what_is_sent_to_this_node_alone_is_never_a_copy() {
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
async fn what_this_node_says_is_in_the_set_with_its_nonce_or_by_its_content() {
    let relay = SmartRelay::new();
    let peers = Peers::with_plugins(Config::default(), [&relay as &dyn Plugin]);
    let _ = peers.broadcast_payload("beep").await;
    assert_eq!(relay.seen().identities, 1);

    // Without the plugin nothing tells it.
    let relay = SmartRelay::new();
    let _ = Peers::new(Config::default())
        .broadcast_payload("beep")
        .await;
    assert_eq!(relay.seen().identities, 0);
}

#[tokio::test]
async fn a_full_set_forgets_the_oldest_and_counts_it() {
    let (relay, heard) = (SmartRelay::new().capacity(2), Heard::default());
    let mut stack = heard.layered(&relay);
    for nonce in 1..=3 {
        call(&mut stack, nonced(nonce), "beep").await;
    }
    let seen = relay.seen();
    assert_eq!((seen.identities, seen.evicted_young), (2, 1));
    assert!(seen.bytes > 0);
    call(&mut stack, nonced(3), "beep").await;
    assert_eq!(heard.take().await.len(), 3, "the newest is remembered");
    call(&mut stack, nonced(1), "beep").await;
    assert_eq!(heard.take().await.len(), 1, "the oldest is not");
}

#[tokio::test]
async fn relays_after_the_rest_has_accepted_and_a_refused_frame_stays_seen() {
    let relay = SmartRelay::new().relay_after();
    let layer = tower_layer::layer_fn(|inner| relay.layer(inner));
    let (mut stack, mut handle) = mock::spawn_layer::<Frame, Reply, _>(layer);
    for (nonce, accept) in [(1, true), (2, false)] {
        let frame = test_util::frame(nonced(nonce), "beep");
        assert!(stack.poll_ready().is_ready());
        let mut first = tokio_test::task::spawn(stack.call(frame.clone()));
        assert!(first.poll().is_pending());
        assert_eq!(test_util::relayed(&frame), None);

        // A copy that comes while the first is being handled.
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
async fn is_as_ready_as_the_inner_service_and_calls_the_one_that_was_made_ready() {
    let relay = SmartRelay::new();
    let layer = tower_layer::layer_fn(|inner| relay.layer(inner));
    let (mut stack, mut handle) = mock::spawn_layer::<Frame, Reply, _>(layer);
    handle.allow(0);
    assert!(stack.poll_ready().is_pending());
    handle.allow(1);
    assert!(stack.is_woken());
    assert!(stack.poll_ready().is_ready());
    // The mock panics when a clone that was not made ready is called.
    let first = tokio_test::task::spawn(stack.call(test_util::frame(nonced(1), "beep")));
    let (_, answer) = handle.next_request().await.unwrap();
    answer.send_error("broken");
    assert_eq!(first.await.unwrap_err().to_string(), "broken");

    // A copy gives readiness back, and the next frame asks for it again.
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
async fn a_copy_does_not_keep_the_permit_that_other_peers_wait_for() {
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
        // The permit is free now, though `one` is not called again.
        assert!(other.enter(|cx, mut other| other.poll_ready(cx)).is_ready());
        other.call(test_util::frame(Kind::Data, "")).await.unwrap();
    }
}
