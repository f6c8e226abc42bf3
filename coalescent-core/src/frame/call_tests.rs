use tokio::time::Instant;

use super::*;
use crate::config::Config;
use crate::frame::in_flight::InFlight;
use crate::frame::{Frame, Relay};
use crate::node::Peers;
use crate::test_util;
use crate::wire::{Head, Kind};

const WAIT: Relay = Relay::new(Flow::Wait).direct(true);

const DROP: Relay = Relay::new(Flow::Drop).direct(true);

/// A connection that calls its stack with frames, and the frames that its inbox has staged.
struct Connection {
    batch: Arc<ReadBatch>,
    staged: VecDeque<Frame>,
}

impl Connection {
    fn new() -> Self {
        let peer = test_util::peer(&Peers::new(Config::default()));
        Self {
            batch: Arc::new(ReadBatch {
                in_flight: Arc::new(InFlight::new(peer, 1)),
                bytes: "beep".into(),
                buffer: 0,
                buffer_len: 4,
                at: Instant::now(),
            }),
            staged: VecDeque::new(),
        }
    }

    fn in_flight(&self) -> &InFlight {
        &self.batch.in_flight
    }

    /// Calls `stack` with the frame `seq`, which is part of its block.
    fn call(&mut self, seq: u64, stack: impl FnOnce(Frame)) -> CallOutcome {
        let Self { batch, staged } = self;
        batch.in_flight.open(0, seq);
        let scope = CallScope::open(batch.in_flight.place(), staged);
        let own = scope.begin(seq, true, batch);
        stack(Frame::new(own, &Head::new(Kind::Data, 1), 0..4, 0, seq));
        scope.end()
    }
}

#[test]
fn the_first_decision_stands_and_a_dropped_frame_is_over() {
    let mut connection = Connection::new();
    let outcome = connection.call(1, drop);
    assert!(outcome.is_over() && outcome.flow().is_none());
    let outcome = connection.call(2, |frame| {
        assert!(frame.relay(WAIT) && frame.relay(DROP));
    });
    assert_eq!(outcome.flow(), Some(Flow::Wait));
    assert!(outcome.is_over() && connection.in_flight().is_untouched(0, 2));
}

#[test]
fn a_frame_that_is_kept_or_cloned_is_not_over() {
    let mut connection = Connection::new();
    let mut kept = None;
    let outcome = connection.call(1, |frame| kept = Some(frame));
    assert!(!outcome.is_over());
    drop(kept);
    let outcome = connection.call(2, |frame| drop(frame.clone()));
    assert!(!outcome.is_over());
}

#[test]
fn outside_of_its_call_a_frame_is_decided_about_in_its_slot() {
    let mut connection = Connection::new();
    let mut kept = None;
    connection.call(1, |frame| kept = Some(frame));
    assert!(kept.unwrap().relay(DROP));
    assert!(!connection.in_flight().is_untouched(0, 1));
    let decision = connection.in_flight().close(0, 1);
    assert_eq!(decision, Some((Flow::Drop, None)));
}

#[test]
fn a_replaced_payload_is_decided_about_in_the_slot() {
    let mut connection = Connection::new();
    let outcome = connection.call(1, |mut frame| {
        frame.set_payload("boop");
        frame.relay(WAIT);
    });
    assert!(!outcome.is_over() && outcome.flow().is_none());
    let decision = connection.in_flight().close(0, 1);
    assert_eq!(decision, Some((Flow::Wait, Some("boop".into()))));
}

#[test]
fn only_a_pristine_frame_is_delivered_in_place() {
    let mut connection = Connection::new();
    let outcome = connection.call(1, |frame| assert!(stage(frame).is_none()));
    assert!(outcome.is_over() && outcome.is_in_place());
    assert_eq!((outcome.whole(), outcome.discarded()), (0, 0));
    let outcome = connection.call(2, |mut frame| {
        frame.set_payload("boop");
        assert!(stage(frame).is_none());
    });
    assert!(outcome.is_over() && !outcome.is_in_place());
    assert_eq!((outcome.whole(), outcome.discarded()), (1, 0));
    assert_eq!(connection.staged.len(), 1);
    let outcome = connection.call(3, |frame| {
        let (connection, seq) = frame.key();
        assert!(note_discarded(connection, seq));
    });
    assert_eq!((outcome.whole(), outcome.discarded()), (0, 1));
}

#[test]
fn a_continued_call_counts_as_shared() {
    let mut connection = Connection::new();
    let mut kept = None;
    connection.call(1, |frame| kept = Some(frame));
    let place = connection.in_flight().place();
    let scope = CallScope::open(place, &mut connection.staged);
    scope.go_on(1);
    let frame = kept.unwrap();
    frame.relay(WAIT);
    drop(frame);
    let outcome = scope.end();
    assert!(!outcome.is_over());
    assert_eq!(outcome.flow(), Some(Flow::Wait));
}

#[test]
fn scopes_nest() {
    let (mut outer, mut inner) = (Connection::new(), Connection::new());
    let outcome = outer.call(1, |frame| {
        let outcome = inner.call(1, |mut frame| {
            frame.set_payload("boop");
            stage(frame);
        });
        assert_eq!((outcome.whole(), outcome.flow()), (1, None));
        frame.relay(WAIT);
    });
    assert_eq!((outcome.whole(), outcome.flow()), (0, Some(Flow::Wait)));
    assert!(outcome.is_over());
    assert_eq!((outer.staged.len(), inner.staged.len()), (0, 1));
}

#[test]
fn frames_of_one_batch_pass_their_reference_on() {
    let mut connection = Connection::new();
    let batch = Arc::clone(&connection.batch);
    let scope = CallScope::open(batch.in_flight.place(), &mut connection.staged);
    for seq in 1..4 {
        let own = scope.begin(seq, true, &batch);
        // This test's, the connection's, and the frame's.
        assert_eq!(Arc::strong_count(&batch), 3);
        drop(Frame::new(own, &Head::new(Kind::Data, 1), 0..4, 0, seq));
        scope.end();
        assert_eq!(Arc::strong_count(&batch), 3, "it waits for the next frame");
    }
    drop(scope);
    assert_eq!(Arc::strong_count(&batch), 2);
}
