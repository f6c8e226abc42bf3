use bytes::Bytes;
use tokio::time::Instant;
use tokio_test::{assert_pending, assert_ready, task};

use super::*;
use crate::config::Config;
use crate::frame::in_flight::{InFlight, ReadBatch};
use crate::node::Peers;
use crate::test_util;
use crate::wire::{Head, Kind};

const BUFFER: usize = 10_000;

/// Makes groups of the frames of one connection.
struct Source(Arc<InFlight>);

impl Source {
    fn new() -> Self {
        let peer = test_util::peer(&Peers::new(Config::default()));
        Self(Arc::new(InFlight::new(peer, 1)))
    }

    /// Makes a group of empty frames that were read into the buffer of this number.
    fn group(&self, buffer: u64, frames: usize) -> FrameGroup {
        let batch = Arc::new(ReadBatch {
            in_flight: Arc::clone(&self.0),
            bytes: Bytes::new(),
            buffer,
            buffer_len: BUFFER,
            at: Instant::now(),
        });
        let heads = vec![(0, Head::new(Kind::Data, 1)); frames];
        FrameGroup::block(batch, heads, 0..frames)
    }
}

fn fill(queue: &Queue, prefetch: &mut Prefetch) -> Poll<bool> {
    queue.poll_fill(prefetch, &mut Context::from_waker(Waker::noop()))
}

/// Takes all frames out of a prefetch.
fn drain(prefetch: &mut Prefetch) -> usize {
    std::iter::from_fn(|| prefetch.pop()).count()
}

#[test]
fn without_a_reader_frames_are_discarded() {
    let (queue, source) = (Queue::new(0), Source::new());
    let mut groups = VecDeque::from([source.group(0, 1), source.group(1, 1)]);
    queue.offer(&mut groups);
    assert!(groups.is_empty() && !queue.is_read());
    let mut reader = queue.open();
    assert!(queue.is_read());
    assert!(fill(&queue, &mut reader).is_pending());
    queue.offer(&mut VecDeque::from([source.group(0, 1)]));
    queue.close(&mut reader);
    assert!(!queue.is_read());
    assert!(fill(&queue, &mut queue.open()).is_pending());
}

#[test]
fn a_buffer_counts_once_for_consecutive_groups_and_one_group_always_fits() {
    let source = Source::new();
    let queue = Queue::new(2 * BUFFER + 4 * FRAME_COST);
    let mut reader = queue.open();
    let numbers = [0, 0, 1, 1, 2];
    let mut groups: VecDeque<_> = numbers.map(|number| source.group(number, 1)).into();
    queue.offer(&mut groups);
    assert_eq!(groups.len(), 1, "only the third buffer is too much");
    assert_eq!(fill(&queue, &mut reader), Poll::Ready(true));
    assert_eq!(drain(&mut reader), 4);

    let small = Queue::new(1);
    let mut reader = small.open();
    let mut groups = VecDeque::from([source.group(0, 1), source.group(0, 1)]);
    small.offer(&mut groups);
    assert_eq!(groups.len(), 1);
    assert_eq!(fill(&small, &mut reader), Poll::Ready(true));
}

#[test]
fn several_readers_take_some_frames_at_a_time_and_put_back_the_rest() {
    let (queue, source) = (Queue::new(usize::MAX), Source::new());
    let (mut first, mut second) = (queue.open(), queue.open());
    queue.offer(&mut VecDeque::from([source.group(0, SHARED_FILL + 1)]));
    assert_eq!(fill(&queue, &mut first), Poll::Ready(true));
    assert_eq!(fill(&queue, &mut second), Poll::Ready(true));
    assert_eq!(drain(&mut second), 1);
    assert!(first.pop().is_some());
    queue.close(&mut first);
    assert_eq!(fill(&queue, &mut second), Poll::Ready(true));
    assert_eq!(drain(&mut second), SHARED_FILL - 1);
}

#[test]
fn a_push_waits_for_room_and_keeps_its_frames_when_cancelled() {
    let (queue, source) = (Queue::new(1), Source::new());
    let mut reader = queue.open();
    queue.offer(&mut VecDeque::from([source.group(0, 1)]));
    let mut groups = VecDeque::from([source.group(1, 1)]);
    let mut push = task::spawn(queue.push(&mut groups));
    assert_pending!(push.poll());
    drop(push);
    assert_eq!((groups.len(), queue.state().waiting), (1, 0));
    let mut push = task::spawn(queue.push(&mut groups));
    assert_pending!(push.poll());
    assert_eq!(fill(&queue, &mut reader), Poll::Ready(true));
    assert!(push.is_woken());
    assert_ready!(push.poll());
}

#[test]
fn after_the_end_a_reader_gets_what_is_left() {
    let (queue, source) = (Queue::new(usize::MAX), Source::new());
    let mut reader = queue.open();
    let waiting = task::spawn(()).enter(|cx, _| queue.poll_fill(&mut reader, cx));
    assert!(waiting.is_pending());
    queue.offer(&mut VecDeque::from([source.group(0, 2)]));
    queue.end();
    queue.offer(&mut VecDeque::from([source.group(0, 1)]));
    assert_eq!(fill(&queue, &mut reader), Poll::Ready(true));
    assert_eq!(drain(&mut reader), 2);
    assert_eq!(fill(&queue, &mut reader), Poll::Ready(false));
    assert_eq!(queue.state().used, 0);
}
