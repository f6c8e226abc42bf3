use std::task::Poll;

use tokio_test::task::spawn;

use super::*;
use crate::outbox::Flow;
use crate::test_util;
use crate::wire::Kind;

const RELAY: Relay = Relay::new(Flow::Wait);

fn broadcast() -> Frame {
    test_util::frame(Kind::Broadcast { nonce: 7 }, "beep")
}

#[test]
fn what_is_accepted_is_relayed_as_the_relay_has_seen_it() {
    let mut frame = broadcast();
    frame.set_payload("outside");
    let held = frame.hold(RELAY);
    let mut inside = frame.clone();
    inside.set_payload("inside");
    assert!(test_util::relayed(&frame).is_none());
    assert!(inside.accept());
    assert_eq!(test_util::relayed(&frame).unwrap().payload, "outside");
    assert_eq!(held.verdict(), Some(Verdict::Accept));

    let mut frame = broadcast();
    let held = frame.hold(RELAY);
    let mut inside = frame.clone();
    inside.set_payload("inside");
    assert!(inside.accept());
    assert_eq!(test_util::relayed(&frame).unwrap().payload, "beep");
    assert_eq!(held.verdict_or(Verdict::Ignore), Verdict::Accept);
}

#[test]
fn the_first_verdict_stands() {
    for verdict in [Verdict::Ignore, Verdict::Retry, Verdict::reject()] {
        let mut frame = broadcast();
        let held = frame.hold(RELAY);
        assert!(frame.judge(verdict));
        assert!(frame.clone().accept(), "a relay waits, or has waited");
        assert_eq!(held.verdict_or(Verdict::Accept), verdict);
        assert!(test_util::relayed(&frame).is_none());
    }
    let mut frame = broadcast();
    let held = frame.hold(RELAY);
    assert_eq!(held.verdict_or(Verdict::Ignore), Verdict::Ignore);
    frame.accept();
    assert!(test_util::relayed(&frame).is_none(), "it comes too late");
}

#[test]
fn nobody_waits_for_a_frame_that_is_not_held() {
    let frame = broadcast();
    assert!(!frame.accept() && !frame.withhold());
    assert!(test_util::relayed(&frame).is_none());

    let mut frame = broadcast();
    let _held = frame.hold(RELAY);
    let part = frame.derive("part");
    assert!(!part.accept(), "it does not answer for the whole");
    assert!(test_util::relayed(&frame).is_none());
}

#[test]
fn a_relay_that_only_watches_passes_on_by_itself() {
    let mut frame = broadcast();
    let outer = frame.watch(RELAY);
    let inner = frame.hold(RELAY);
    assert!(frame.withhold());
    assert_eq!(outer.verdict(), Some(Verdict::Ignore));
    assert_eq!(inner.verdict(), Some(Verdict::Ignore));

    let mut frame = broadcast();
    let _outer = frame.watch(RELAY);
    frame.accept();
    assert!(test_util::relayed(&frame).is_none());
}

#[test]
fn the_relay_is_woken_by_a_verdict() {
    let mut frame = broadcast();
    let held = frame.hold(RELAY);
    let mut waits = spawn(std::future::poll_fn(|cx| held.poll_verdict(cx)));
    assert!(waits.poll().is_pending());
    assert!(waits.poll().is_pending());
    frame.clone().judge(Verdict::Retry);
    assert!(waits.is_woken());
    assert_eq!(waits.poll(), Poll::Ready(Verdict::Retry));
}

#[test]
fn the_read_side_does_not_keep_the_verdict() {
    let mut frame = broadcast();
    let _held = frame.hold(RELAY);
    assert!(!frame.is_pristine());
    frame.let_go();
    assert!(frame.is_pristine());
    assert!(!frame.accept());

    frame.extensions_mut().insert(7_u32);
    let _held = frame.hold(RELAY);
    frame.let_go();
    assert!(!frame.is_pristine());
    assert_eq!(frame.extensions().get(), Some(&7_u32));
}
