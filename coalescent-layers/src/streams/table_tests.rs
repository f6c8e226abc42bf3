//! Two tables that talk, and one that is lied to.

use std::collections::HashSet;
use std::collections::VecDeque;
use std::task::Poll;
use std::task::Waker;

use bytes::Bytes;
use proptest::prelude::*;

use super::frame::{Opener, StreamFrame, StreamId};
use super::state::{SEND_BUFFER, Stream, Wakes};
use super::table::{Effect, Key, MAX_STREAMS, Table};
use super::{MAX_CREDIT, StreamError};

const WINDOW: u32 = 1000;
const CHUNK: usize = 300;

/// One side of a connection, with what its application did.
struct Side {
    table: Table,
    /// The frames on their way to the other side.
    wire: VecDeque<Bytes>,
    handles: Vec<Handle>,
    /// The streams that it has sent a RESET of.
    reset: HashSet<StreamId>,
}

#[derive(Debug)]
struct Handle {
    key: Key,
    written: usize,
    read: usize,
    /// Whether reading came to the end.
    ended: bool,
    shut: bool,
    /// Whether this side has seen a reset, or made one.
    reset: bool,
    dropped: bool,
}

fn byte(key: Key, by_opener: bool, at: usize) -> u8 {
    (key.number as usize * 7 + usize::from(by_opener) * 101 + at % 253) as u8
}

fn waker() -> &'static Waker {
    Waker::noop()
}

impl Side {
    fn new() -> Self {
        Self {
            table: Table::new(WINDOW, CHUNK),
            wire: VecDeque::new(),
            handles: Vec::new(),
            reset: HashSet::new(),
        }
    }

    fn add(&mut self, key: Key) {
        self.handles.push(Handle {
            key,
            written: 0,
            read: 0,
            ended: false,
            shut: false,
            reset: false,
            dropped: false,
        });
    }

    fn open(&mut self) -> bool {
        match self.table.open("x").unwrap() {
            Some(key) => {
                self.add(key);
                true
            }
            None => false,
        }
    }

    /// Sends up to `count` frames.
    fn send(&mut self, count: usize) {
        for _ in 0..count {
            let Some(frame) = self.table.next_frame(&mut Wakes::new()) else {
                return;
            };
            let decoded = StreamFrame::decode(frame.clone()).expect("a valid frame");
            let (stream, is_reset) = match decoded {
                StreamFrame::Open { stream, .. }
                | StreamFrame::Data { stream, .. }
                | StreamFrame::End { stream }
                | StreamFrame::Credit { stream, .. } => (Some(stream), false),
                StreamFrame::Reset { stream, .. } => (Some(stream), true),
                StreamFrame::Places { .. } => (None, false),
            };
            if let Some(stream) = stream {
                assert!(!self.reset.contains(&stream), "a frame behind a reset");
                if is_reset {
                    self.reset.insert(stream);
                }
            }
            self.wire.push_back(frame);
        }
    }

    fn receive(&mut self, frame: Bytes) {
        let frame = StreamFrame::decode(frame).expect("a valid frame");
        match self.table.receive(frame, &mut Wakes::new()) {
            Ok(Effect::Opened(key, name)) => {
                assert_eq!(name, "x");
                self.table.with(key, Stream::accept).unwrap();
                self.add(key);
            }
            Ok(_) => {}
            Err(fault) => panic!("a fault of an honest side: {fault}"),
        }
    }

    fn handle(&mut self, pick: usize) -> Option<(&mut Table, &mut Handle)> {
        let held: Vec<_> = (0..self.handles.len())
            .filter(|at| !self.handles[*at].dropped)
            .collect();
        let at = *held.get(pick % held.len().max(1))?;
        Some((&mut self.table, &mut self.handles[at]))
    }

    fn write(&mut self, pick: usize, len: usize) {
        let Some((table, handle)) = self.handle(pick) else {
            return;
        };
        let (key, from) = (handle.key, handle.written);
        let bytes: Vec<u8> = (from..from + len)
            .map(|at| byte(key, key.ours, at))
            .collect();
        match table.with(key, |stream| stream.poll_write(&bytes, CHUNK, waker())) {
            Ok(Poll::Ready(Ok(written))) => {
                assert!(!handle.shut && !handle.reset);
                handle.written += written;
            }
            Ok(Poll::Ready(Err(error))) => {
                assert!(handle.shut || error.is_reset());
                handle.reset |= error.is_reset();
            }
            Ok(Poll::Pending) => assert!(len > 0),
            Err(error) => panic!("{error}"),
        }
    }

    fn read(&mut self, pick: usize, most: usize) {
        let Some((table, handle)) = self.handle(pick) else {
            return;
        };
        let key = handle.key;
        let count = match table.poll_front(key, waker()) {
            Poll::Pending => return,
            Poll::Ready(Err(error)) => {
                assert!(error.is_reset(), "{error}");
                handle.reset = true;
                return;
            }
            Poll::Ready(Ok([])) => {
                handle.ended = true;
                return;
            }
            Poll::Ready(Ok(front)) => {
                let count = front.len().min(most);
                for (at, had) in front[..count].iter().enumerate() {
                    assert_eq!(*had, byte(key, !key.ours, handle.read + at));
                }
                count
            }
        };
        table.consume(key, count);
        handle.read += count;
    }

    fn shutdown(&mut self, pick: usize) {
        if let Some((table, handle)) = self.handle(pick) {
            let ended = table.with(handle.key, |stream| stream.poll_shutdown(waker()));
            match ended {
                Ok(Poll::Ready(Err(error))) => {
                    assert!(error.is_reset());
                    handle.reset = true;
                }
                Ok(_) => handle.shut = true,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn reset(&mut self, pick: usize) {
        if let Some((table, handle)) = self.handle(pick) {
            table
                .with(handle.key, |stream| stream.reset("why", &mut Wakes::new()))
                .unwrap();
            handle.reset = true;
        }
    }

    fn drop_one(&mut self, pick: usize) {
        if let Some((table, handle)) = self.handle(pick) {
            table.let_go(handle.key, &mut Wakes::new());
            handle.dropped = true;
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Open,
    Write(usize, usize),
    Read(usize, usize),
    Shutdown(usize),
    Reset(usize),
    Drop(usize),
    Send(usize),
    Deliver(usize),
}

fn steps() -> impl Strategy<Value = Vec<(bool, Step)>> {
    let step = prop_oneof![
        2 => Just(Step::Open),
        8 => (any::<usize>(), 0_usize..2000).prop_map(|(pick, len)| Step::Write(pick, len)),
        8 => (any::<usize>(), 0_usize..2000).prop_map(|(pick, len)| Step::Read(pick, len)),
        2 => any::<usize>().prop_map(Step::Shutdown),
        1 => any::<usize>().prop_map(Step::Reset),
        2 => any::<usize>().prop_map(Step::Drop),
        8 => (1_usize..20).prop_map(Step::Send),
        8 => (1_usize..20).prop_map(Step::Deliver),
    ];
    prop::collection::vec((any::<bool>(), step), 0..250)
}

/// Sends and delivers until nothing is left.
fn settle(sides: &mut [Side; 2]) {
    loop {
        let mut moved = false;
        for from in 0..2 {
            sides[from].send(usize::MAX);
            while let Some(frame) = sides[from].wire.pop_front() {
                sides[1 - from].receive(frame);
                moved = true;
            }
        }
        if !moved {
            return;
        }
    }
}

fn act(sides: &mut [Side; 2], second: bool, step: &Step) {
    let from = usize::from(second);
    let side = &mut sides[from];
    match *step {
        Step::Open => {
            side.open();
        }
        Step::Write(pick, len) => side.write(pick, len),
        Step::Read(pick, most) => side.read(pick, most),
        Step::Shutdown(pick) => side.shutdown(pick),
        Step::Reset(pick) => side.reset(pick),
        Step::Drop(pick) => side.drop_one(pick),
        Step::Send(count) => side.send(count),
        Step::Deliver(count) => {
            for _ in 0..count {
                if let Some(frame) = sides[from].wire.pop_front() {
                    sides[1 - from].receive(frame);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn bytes_arrive_in_order_and_nothing_is_kept(steps in steps()) {
        let mut sides = [Side::new(), Side::new()];
        for (second, step) in &steps {
            act(&mut sides, *second, step);
        }
        settle(&mut sides);
        // What each has written and shut down is all there for the other, if that reads.
        loop {
            let before: usize = sides.iter().flat_map(|side| &side.handles).map(|h| h.read).sum();
            for side in &mut sides {
                let held = side.handles.iter().filter(|handle| !handle.dropped).count();
                for pick in 0..held {
                    side.read(pick, usize::MAX);
                }
            }
            settle(&mut sides);
            let after: usize = sides.iter().flat_map(|side| &side.handles).map(|h| h.read).sum();
            if before == after {
                break;
            }
        }
        for (here, there) in [(0, 1), (1, 0)] {
            for handle in &sides[here].handles {
                let key = Key { ours: !handle.key.ours, ..handle.key };
                let Some(other) = sides[there].handles.iter().find(|other| other.key == key) else {
                    continue;
                };
                prop_assert!(other.read <= handle.written);
                if handle.shut && !handle.reset && !other.reset && !other.dropped {
                    prop_assert!(other.ended, "{:?} {:?}", handle, other);
                    prop_assert_eq!(other.read, handle.written);
                }
                if other.ended {
                    prop_assert!(handle.shut);
                    prop_assert_eq!(other.read, handle.written);
                }
            }
        }
        // Once all handles are dropped, no stream is left, and each side has all its places.
        for side in &mut sides {
            for _ in 0..side.handles.len() {
                side.drop_one(0);
            }
        }
        settle(&mut sides);
        for side in &mut sides {
            prop_assert_eq!(side.table.len(), 0);
            prop_assert!(!side.table.has_frame());
            let opened = (0..).take_while(|_| side.open()).count();
            prop_assert_eq!(opened, MAX_STREAMS as usize);
        }
    }

    #[test]
    fn any_frames_cost_no_more_than_is_published(frames in hostile()) {
        let mut table = Table::new(WINDOW, CHUNK);
        let mut held = Vec::new();
        for _ in 0..3 {
            held.extend(table.open("ours").unwrap());
        }
        let mut received = 0;
        for frame in frames {
            let Ok(frame) = StreamFrame::decode(frame) else { continue };
            if let StreamFrame::Data { bytes, .. } = &frame {
                received += bytes.len();
            }
            if let Ok(Effect::Opened(key, _)) = table.receive(frame, &mut Wakes::new()) {
                table.with(key, Stream::accept).unwrap();
                held.push(key);
            }
            prop_assert!(table.len() <= 3 + MAX_STREAMS as usize);
            while table.next_frame(&mut Wakes::new()).is_some() {}
        }
        let mut kept = 0;
        for key in held {
            let mut of_stream = 0;
            while let Poll::Ready(Ok(front)) = table.poll_front(key, waker()) {
                let count = front.len();
                if count == 0 {
                    break;
                }
                of_stream += count;
                table.consume(key, count);
            }
            prop_assert!(of_stream <= WINDOW as usize);
            kept += of_stream;
        }
        prop_assert!(kept <= received);
    }
}

fn hostile() -> impl Strategy<Value = Vec<Bytes>> {
    let stream = (any::<bool>(), prop_oneof![1_u32..40, any::<u32>()]).prop_map(|(own, number)| {
        let opener = if own {
            Opener::Sender
        } else {
            Opener::Receiver
        };
        let number = (number & 0x7fff_ffff).max(1);
        StreamId { opener, number }
    });
    let frame =
        (stream, 0_u8..8, any::<u32>(), 0_usize..1500).prop_map(|(stream, kind, count, len)| {
            match kind {
                0 | 1 => StreamFrame::Open {
                    stream: StreamId {
                        opener: Opener::Sender,
                        ..stream
                    },
                    credit: count,
                    name: "x".to_owned(),
                },
                2 | 3 => StreamFrame::Data {
                    stream,
                    bytes: vec![0; len].into(),
                },
                4 => StreamFrame::End { stream },
                5 => StreamFrame::Reset {
                    stream,
                    reason: "y".to_owned(),
                },
                6 => StreamFrame::Credit {
                    stream,
                    bytes: count,
                },
                _ => StreamFrame::Places { streams: count },
            }
        });
    let frame = prop_oneof![
        20 => frame.prop_map(|frame| frame.encode()),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from),
    ];
    prop::collection::vec(frame, 0..300)
}

fn theirs(number: u32) -> StreamId {
    StreamId {
        opener: Opener::Sender,
        number,
    }
}

fn open(number: u32) -> StreamFrame {
    StreamFrame::Open {
        stream: theirs(number),
        credit: 10,
        name: "x".to_owned(),
    }
}

fn data(number: u32, len: usize) -> StreamFrame {
    StreamFrame::Data {
        stream: theirs(number),
        bytes: vec![0; len].into(),
    }
}

/// Returns a table to which the other side has opened one stream, which was accepted.
fn accepted() -> Table {
    let mut table = Table::new(WINDOW, CHUNK);
    let opened = table.receive(open(1), &mut Wakes::new());
    let Ok(Effect::Opened(key, _)) = opened else {
        panic!("{opened:?}")
    };
    assert!(!table.has_frame());
    table.with(key, Stream::accept).unwrap();
    let credit = table.next_frame(&mut Wakes::new()).expect("credit");
    let credit = StreamFrame::decode(credit).unwrap();
    assert!(matches!(credit, StreamFrame::Credit { bytes: WINDOW, .. }));
    table
}

#[test]
fn each_offence_is_a_fault() {
    let end = StreamFrame::End { stream: theirs(1) };
    let reset = StreamFrame::Reset {
        stream: theirs(1),
        reason: String::new(),
    };
    let more = |bytes| StreamFrame::Credit {
        stream: theirs(1),
        bytes,
    };
    let full = StreamFrame::Places { streams: 1 };
    let cases: [(&[StreamFrame], &str); 9] = [
        (&[open(1)], "opened before"),
        (&[open(3)], "not opened in order"),
        (&[data(2, 1)], "never opened"),
        (&[data(1, 600), data(1, 401)], "more bytes than"),
        (&[end.clone(), data(1, 1)], "behind the end"),
        (&[end.clone(), end], "a second end"),
        (&[reset, data(1, 1)], "behind the end"),
        (&[more(MAX_CREDIT)], "more credit"),
        (&[full], "more places"),
    ];
    for (frames, why) in cases {
        let mut table = accepted();
        let mut last = Ok(Effect::None);
        for frame in frames {
            assert!(last.is_ok(), "{frames:?}: {last:?}");
            last = table.receive(frame.clone(), &mut Wakes::new());
        }
        let fault = last.expect_err(why);
        assert!(fault.contains(why), "{fault}");
    }
    let mut table = Table::new(WINDOW, CHUNK);
    for number in 1..=MAX_STREAMS {
        assert!(table.receive(open(number), &mut Wakes::new()).is_ok());
    }
    let fault = table.receive(open(MAX_STREAMS + 1), &mut Wakes::new());
    assert!(fault.unwrap_err().contains("places"));
}

#[test]
fn bytes_beyond_the_credit_reset_their_stream() {
    let mut table = accepted();
    let key = Key {
        ours: false,
        number: 1,
    };
    assert!(table.receive(data(1, 1001), &mut Wakes::new()).is_err());
    let read = table.poll_front(key, waker());
    assert!(matches!(read, Poll::Ready(Err(error)) if error.is_reset()));
    let frame = table.next_frame(&mut Wakes::new()).expect("a reset");
    assert!(matches!(
        StreamFrame::decode(frame),
        Ok(StreamFrame::Reset { .. })
    ));
}

#[test]
fn what_crosses_the_end_of_a_stream_is_ignored() {
    let mut table = accepted();
    let key = Key {
        ours: false,
        number: 1,
    };
    let mut wakes = Wakes::new();
    let end = StreamFrame::End { stream: theirs(1) };
    table.receive(end, &mut wakes).unwrap();
    let _ = table.with(key, |stream| stream.poll_shutdown(waker()));
    table.let_go(key, &mut wakes);
    while table.next_frame(&mut wakes).is_some() {}
    assert_eq!(table.len(), 0);
    for late in [
        StreamFrame::Credit {
            stream: theirs(1),
            bytes: 1,
        },
        StreamFrame::Reset {
            stream: theirs(1),
            reason: String::new(),
        },
    ] {
        assert_eq!(table.receive(late, &mut wakes), Ok(Effect::None));
    }
    assert!(table.receive(data(1, 1), &mut wakes).is_err());
}

#[test]
fn streams_take_turns() {
    let mut table = Table::new(WINDOW, CHUNK);
    let mut wakes = Wakes::new();
    for number in 1..=2 {
        let StreamFrame::Open { stream, name, .. } = open(number) else {
            unreachable!()
        };
        let credit = MAX_CREDIT;
        let open = StreamFrame::Open {
            stream,
            credit,
            name,
        };
        table.receive(open, &mut wakes).unwrap();
    }
    while table.next_frame(&mut wakes).is_some() {}
    let keys = [1, 2].map(|number| Key {
        ours: false,
        number,
    });
    for key in keys {
        let written = table.with(key, |stream| {
            stream.poll_write(&[0; 2 * SEND_BUFFER], CHUNK, waker())
        });
        assert!(matches!(written, Ok(Poll::Ready(Ok(SEND_BUFFER)))));
        let more = table.with(key, |stream| stream.poll_write(&[0], CHUNK, waker()));
        assert!(matches!(more, Ok(Poll::Pending)));
    }
    for turn in 0..20_u32 {
        let frame = table.next_frame(&mut wakes).expect("bytes");
        let Ok(StreamFrame::Data { stream, bytes }) = StreamFrame::decode(frame) else {
            panic!("no bytes")
        };
        assert_eq!((stream.number, bytes.len()), (turn % 2 + 1, CHUNK));
    }
}

#[test]
fn a_peer_that_leaves_ends_all_but_what_has_come() {
    let mut table = accepted();
    let key = Key {
        ours: false,
        number: 1,
    };
    let mut wakes = Wakes::new();
    table.receive(data(1, 10), &mut wakes).unwrap();
    table.leave("bye", &mut wakes);
    assert!(matches!(table.poll_front(key, waker()), Poll::Ready(Ok(front)) if front.len() == 10));
    table.consume(key, 10);
    let closed = |result: Poll<Result<&[u8], StreamError>>| match result {
        Poll::Ready(Err(error)) => error.is_closed(),
        _ => false,
    };
    assert!(closed(table.poll_front(key, waker())));
    let written = table.with(key, |stream| stream.poll_write(b"x", CHUNK, waker()));
    assert!(written.unwrap_err().is_closed());
    assert!(table.open("x").unwrap_err().is_closed());
    table.let_go(key, &mut wakes);
    assert_eq!(table.len(), 0);
    assert!(table.next_frame(&mut wakes).is_none());
}
