use bytes::BytesMut;

use super::*;
use crate::node::Peers;
use crate::wire::Wire;
use crate::{Config, test_util};

fn in_flight() -> Arc<InFlight> {
    let peer = test_util::peer(&Peers::new(Config::default()));
    Arc::new(InFlight::new(peer, 1))
}

/// Returns one block of frames of these kinds, as the native wire decodes them.
fn block(kinds: &[Kind]) -> Block {
    let mut codec = Wire::native().codec(1024);
    let mut bytes = BytesMut::new();
    for kind in kinds {
        codec.encode(*kind, 2, b"8 bytes.", &mut bytes).unwrap();
    }
    codec.established();
    let mut block = Block::new();
    assert!(codec.next_block(&mut bytes, &mut block).unwrap());
    assert_eq!(block.heads.len(), kinds.len());
    block
}

fn add(backlog: &mut Backlog, kinds: &[Kind], buffer: (usize, u64)) {
    let asks = kinds
        .iter()
        .all(|kind| !kind.is_payload() || matches!(kind, Kind::Request { .. }));
    backlog.add(&in_flight(), block(kinds), asks, buffer, Instant::now());
}

#[tokio::test]
async fn a_buffer_is_counted_once_for_consecutive_batches() {
    let mut backlog = Backlog::default();
    add(&mut backlog, &[Kind::Data], (10_000, 1));
    let first = backlog.cost();
    assert!(first >= 10_000 + BATCH_COST);
    add(&mut backlog, &[Kind::Data], (10_000, 1));
    assert_eq!(backlog.cost(), 2 * first - 10_000);
    add(&mut backlog, &[Kind::Data], (10_000, 2));
    assert_eq!(backlog.cost(), 3 * first - 10_000);
    for _ in 0..3 {
        backlog.end_block();
    }
    assert_eq!(backlog.cost(), 0);
    assert!(backlog.is_empty());
}

#[tokio::test]
async fn withdrawn_requests_and_control_frames_are_passed_over() {
    let mut backlog = Backlog::default();
    let requests = [1, 2, 3].map(|id| Kind::Request { id });
    add(&mut backlog, &requests, (1024, 1));
    add(&mut backlog, &[Kind::Ping, Kind::Data], (1024, 1));
    backlog.withdraw(1);
    backlog.withdraw(3);
    assert!(matches!(backlog.next(), Next::Frame));
    assert_eq!(backlog.skip().map(|head| head.kind), Some(requests[1]));
    assert!(matches!(backlog.next(), Next::BlockEnd));
    assert!(!backlog.has_withdrawn());
    backlog.end_block();
    assert!(matches!(backlog.next(), Next::Frame));
    assert_eq!(backlog.position(), 1);
    assert_eq!(backlog.skip().map(|head| head.kind), Some(Kind::Data));
    backlog.end_block();
    assert!(matches!(backlog.next(), Next::Nothing));
}

#[tokio::test]
async fn only_frames_that_were_not_handled_count_as_lost() {
    let mut backlog = Backlog::default();
    let broadcast = Kind::Broadcast { nonce: 1 };
    add(&mut backlog, &[broadcast, broadcast], (1024, 1));
    assert!(backlog.is_untouched_broadcasts());
    backlog.skip();
    assert!(!backlog.is_untouched_broadcasts());
    add(
        &mut backlog,
        &[Kind::Data, Kind::Ping, broadcast],
        (1024, 2),
    );
    let Unhandled { broadcasts, others } = backlog.unhandled();
    assert_eq!((broadcasts, others), (2, 1));
}

#[tokio::test]
async fn waiting_requests_can_be_made_to_keep_nothing_else_alive() {
    let mut backlog = Backlog::default();
    let reply = Kind::Reply {
        id: 9,
        status: crate::wire::Status::Ok,
    };
    let request = |id| Kind::Request { id };
    add(&mut backlog, &[request(1), request(2)], (100_000, 1));
    assert!(backlog.skip().is_some());
    add(&mut backlog, &[reply, request(3), request(4)], (100_000, 2));
    add(&mut backlog, &[Kind::Data], (100_000, 2));
    add(&mut backlog, &[request(5)], (100_000, 3));
    assert!(backlog.cost() > 400_000);
    assert!(backlog.requests_cost() > 300_000);
    backlog.withdraw(3);
    backlog.compact(true);
    assert!(backlog.requests_cost() < 2000, "{backlog:?}");
    let left = backlog.cost() - backlog.requests_cost();
    assert!((100_000..101_000).contains(&left), "{left}");
    let mut ids = Vec::new();
    loop {
        match backlog.next() {
            Next::Nothing => break,
            Next::BlockEnd => backlog.end_block(),
            Next::Frame => {
                let (batch, next) = backlog.first().unwrap();
                let &(offset, head) = &batch.block.heads[*next];
                assert_eq!(batch.block.payload(offset, &head), "8 bytes.");
                if let Kind::Request { id } = head.kind {
                    ids.push(id);
                }
                backlog.skip();
            }
        }
    }
    assert_eq!(ids, [2, 4, 5]);
    assert_eq!((backlog.cost(), backlog.requests_cost()), (0, 0));
}

#[tokio::test]
async fn the_first_batch_stays_as_it_is_while_results_refer_to_it() {
    let mut backlog = Backlog::default();
    add(&mut backlog, &[Kind::Request { id: 1 }], (100_000, 1));
    add(&mut backlog, &[Kind::Request { id: 2 }], (100_000, 2));
    backlog.compact(false);
    assert!((100_000..101_000).contains(&backlog.cost()));
    backlog.end_block();
    assert!(backlog.cost() < 1000);
}
