//! Streams to one peer: over memory, TCP and TLS, beside messages, and against peers that break the
//! rules.

use std::io;
use std::time::Duration;

use bytes::Bytes;
#[cfg(feature = "tls")]
use coalescent_core::identity::Identity;
use coalescent_core::transport::Memory;
use coalescent_core::wire::Wire;
use coalescent_core::{App, AppExt, Event, Mesh, Peer, Plugin, Registrar};
use coalescent_layers::streams::{
    CHANNEL, Incoming, MAX_STREAMS, MeshStreamsExt, Opener, PeerStream, PeerStreamsExt,
    SEND_BUFFER, StreamError, StreamFrame, StreamId, Streams, WINDOW,
};
use support::memory::node;
use support::{soon, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, empty, split};

const MIB: usize = 1024 * 1024;

/// Two nodes, each with its handle to the other.
struct Pair {
    here: Mesh,
    there: Mesh,
    peer: Peer,
    back: Peer,
}

impl Pair {
    async fn of(here: Mesh, there: Mesh, addr: &str) -> Self {
        let peer = here.connect(addr).await.expect("it listens");
        until("a peer", || there.peers().len() == 1).await;
        let back = there.peers().list().first().expect("a peer").clone();
        Self {
            here,
            there,
            peer,
            back,
        }
    }

    async fn with(ours: Streams, theirs: Streams) -> Self {
        let network = Memory::new();
        let here = node(&network, "here:1", App::new().plugin(ours)).await;
        let there = node(&network, "there:2", App::new().plugin(theirs)).await;
        Self::of(here, there, "there:2").await
    }

    async fn memory() -> Self {
        Self::with(Streams::new(), Streams::new()).await
    }

    async fn tcp() -> Self {
        let here = App::new().plugin(Streams::new()).start().await.unwrap();
        let there = App::new().plugin(Streams::new());
        let there = there.listen("127.0.0.1:0").await.unwrap();
        let addr = there.local_addrs()[0].to_string();
        Self::of(here, there, &addr).await
    }

    #[cfg(feature = "tls")]
    async fn tls() -> Self {
        let app = || {
            App::new()
                .identity(Identity::generate())
                .with(Streams::new())
        };
        let here = app().start().await.unwrap();
        let there = app().listen("127.0.0.1:0").await.unwrap();
        let addr = there.local_addrs()[0].to_string();
        Self::of(here, there, &addr).await
    }

    /// Opens a stream, and returns both ends.
    async fn open(&self, incoming: &mut Incoming) -> (PeerStream, PeerStream) {
        let name = incoming.name().to_owned();
        let (ours, theirs) = tokio::join!(self.peer.open(&name), incoming.accept());
        (ours.expect("it is accepted"), theirs.expect("it arrives"))
    }
}

/// Bytes in which nothing repeats for long.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

fn why(error: &io::Error) -> &StreamError {
    let error = error.get_ref().expect("an error inside");
    error.downcast_ref().expect("an error of a stream")
}

/// Files go both ways, while messages go both ways.
async fn files_and_messages(pair: Pair) {
    let mut incoming = pair.there.accept_streams("file").unwrap();
    let file = noise(4 * MIB + 17);
    let (ours, theirs) = pair.open(&mut incoming).await;
    assert_eq!((ours.name(), theirs.name()), ("file", "file"));
    assert!(*ours.peer() == pair.peer && *theirs.peer() == pair.back);
    let mut reader = pair.there.reader();
    let both = [ours, theirs].map(|stream| {
        let (mut read, mut write) = split(stream);
        let file = file.clone();
        tokio::spawn(async move {
            let write = async {
                write.write_all(&file).await?;
                write.shutdown().await
            };
            let mut got = Vec::new();
            let read = read.read_to_end(&mut got);
            let (written, read) = tokio::join!(write, read);
            written.and(read).map(|_| got == file)
        })
    });
    for number in 0..1000 {
        pair.peer.send_payload(format!("{number}")).await.unwrap();
        let frame = soon("a message", reader.next_frame()).await.unwrap();
        assert_eq!(frame.payload(), number.to_string().as_bytes());
    }
    for one in both {
        let same = soon("a file", one).await.unwrap().unwrap();
        assert!(same);
    }
    assert_eq!(pair.there.stats().channel_dropped, 0);
    assert_eq!(pair.here.stats().dropped, 0);
    soon("the end", pair.here.shutdown()).await;
}

#[tokio::test]
async fn a_file_and_messages_over_memory() {
    files_and_messages(Pair::memory().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_and_messages_over_tcp() {
    files_and_messages(Pair::tcp().await).await;
}

#[cfg(feature = "tls")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_and_messages_over_tls() {
    files_and_messages(Pair::tls().await).await;
}

/// Writes until the stream takes no more, and returns how much that was.
async fn fill(stream: &mut PeerStream) -> usize {
    let mut written = 0;
    let piece = [7; 10_000];
    let quiet = Duration::from_millis(200);
    while let Ok(count) = tokio::time::timeout(quiet, stream.write(&piece)).await {
        written += count.unwrap();
    }
    written
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_reads_holds_back_nothing_else() {
    let pair = Pair::memory().await;
    let mut incoming = pair.there.accept_streams("x").unwrap();
    let (mut stalled, mut unread) = pair.open(&mut incoming).await;
    let written = fill(&mut stalled).await;
    assert_eq!(written, WINDOW as usize);

    let (mut ours, mut theirs) = pair.open(&mut incoming).await;
    let file = noise(3 * MIB);
    let (sent, got) = tokio::join!(
        async {
            ours.write_all(&file).await.unwrap();
            ours.shutdown().await
        },
        async {
            let mut got = Vec::new();
            theirs.read_to_end(&mut got).await.map(|_| got)
        }
    );
    sent.unwrap();
    assert!(got.unwrap() == file);
    let mut reader = pair.there.reader();
    pair.peer.send_payload("hello").await.unwrap();
    assert_eq!(reader.next_frame().await.unwrap().payload(), b"hello");

    // It goes on when somebody reads.
    stalled.shutdown().await.unwrap();
    let mut got = Vec::new();
    unread.read_to_end(&mut got).await.unwrap();
    assert!(got.len() == written && got.iter().all(|byte| *byte == 7));
}

#[tokio::test(start_paused = true)]
async fn a_window_is_an_option_of_who_reads() {
    let pair = Pair::with(Streams::new(), Streams::new().window(64 * 1024)).await;
    let mut incoming = pair.there.accept_streams("x").unwrap();
    let (mut ours, mut theirs) = pair.open(&mut incoming).await;
    assert_eq!(fill(&mut ours).await, 64 * 1024);
    assert_eq!(fill(&mut theirs).await, WINDOW as usize);
    const { assert!(SEND_BUFFER <= WINDOW as usize) };
}

#[tokio::test]
async fn a_reset_tells_its_reason_at_both_ends() {
    let pair = Pair::memory().await;
    let mut incoming = pair.there.accept_streams("x").unwrap();
    let (mut ours, mut theirs) = pair.open(&mut incoming).await;
    ours.write_all(b"half").await.unwrap();
    let mut half = [0; 4];
    theirs.read_exact(&mut half).await.unwrap();
    theirs.reset("the disk is full");
    for (stream, text) in [
        (&mut ours, "the peer reset the stream: the disk is full"),
        (&mut theirs, "the stream was reset here: the disk is full"),
    ] {
        let error = soon("a reset", stream.read(&mut half)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(why(&error).reason(), Some("the disk is full"));
        assert_eq!(error.to_string(), text);
        let error = stream.write(b"more").await.unwrap_err();
        assert!(why(&error).is_reset());
        assert!(stream.flush().await.is_err() && stream.shutdown().await.is_err());
    }
}

#[tokio::test]
async fn a_stream_that_is_dropped_is_reset() {
    let pair = Pair::memory().await;
    let mut incoming = pair.there.accept_streams("x").unwrap();
    let (mut ours, theirs) = pair.open(&mut incoming).await;
    drop(theirs);
    let error = soon("a reset", ours.read_u8()).await.unwrap_err();
    assert_eq!(why(&error).reason(), Some("dropped"));

    // What was shut down arrives all the same; the other direction is reset alone.
    let (mut ours, mut theirs) = pair.open(&mut incoming).await;
    ours.write_all(b"the end").await.unwrap();
    ours.shutdown().await.unwrap();
    let error = ours.write(b"more").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    drop(ours);
    let mut got = String::new();
    soon("the end", theirs.read_to_string(&mut got))
        .await
        .unwrap();
    assert_eq!(got, "the end");
    until("a reset", || {
        let mut write = tokio_test::task::spawn(theirs.write(b"x"));
        matches!(write.poll(), std::task::Poll::Ready(Err(error)) if why(&error).is_reset())
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_nobody_accepts_is_refused() {
    let network = Memory::new();
    let streams = Streams::new().on("echo", |stream| async move {
        let (mut read, mut write) = split(stream);
        let _ = copy(&mut read, &mut write).await;
        let _ = write.shutdown().await;
    });
    let there = node(&network, "there:2", App::new().plugin(streams)).await;
    let here = node(&network, "here:1", App::new().plugin(Streams::new())).await;
    let pair = Pair::of(here, there, "there:2").await;

    let error = pair.peer.open("nothing").await.unwrap_err();
    assert!(error.is_refused(), "{error}");
    assert_eq!(
        error.to_string(),
        "the peer refused the stream: nobody here accepts streams of this name"
    );
    for name in ["", &"x".repeat(65)] {
        assert!(pair.peer.open(name).await.unwrap_err().is_name());
    }
    assert!(pair.there.accept_streams("echo").unwrap_err().is_name());
    let incoming = pair.there.accept_streams("x").unwrap();
    assert!(pair.there.accept_streams("x").unwrap_err().is_name());
    drop(incoming);
    assert!(pair.peer.open("x").await.unwrap_err().is_refused());
    assert!(pair.there.accept_streams("x").is_ok());

    let mut echo = pair.peer.open("echo").await.unwrap();
    echo.write_all(b"hello").await.unwrap();
    echo.shutdown().await.unwrap();
    let mut got = String::new();
    soon("an echo", echo.read_to_string(&mut got))
        .await
        .unwrap();
    assert_eq!(got, "hello");

    // Who has no streams, or cannot have any.
    let without = node(&network, "without:3", App::new()).await;
    let peer = pair.here.connect("without:3").await.unwrap();
    let error = peer.open("echo").await.unwrap_err();
    assert!(error.is_unsupported() && error.to_string().contains("the peer has no streams"));
    let back = without.connect("there:2").await.unwrap();
    let error = back.open("echo").await.unwrap_err();
    assert!(error.is_unsupported() && error.to_string().contains("this app has no streams"));
    assert!(without.accept_streams("x").unwrap_err().is_unsupported());
    let layered = App::new().layer(Streams::new());
    let layered = node(&network, "layered:5", layered).await;
    let error = layered.accept_streams("x").unwrap_err();
    assert!(error.is_unsupported() && error.to_string().contains("with `.layer`"));
    let lines = App::new().wire(Wire::lines());
    let _lines = node(&network, "lines:4", lines).await;
    let peer = pair
        .here
        .connect_wire("lines:4", Wire::lines())
        .await
        .unwrap();
    assert!(peer.open("echo").await.unwrap_err().is_unsupported());
}

#[tokio::test]
async fn who_leaves_ends_its_streams_at_both_ends() {
    for abort in [false, true] {
        let pair = Pair::memory().await;
        let mut incoming = pair.there.accept_streams("x").unwrap();
        let (mut ours, mut theirs) = pair.open(&mut incoming).await;
        ours.write_all(b"last words").await.unwrap();
        ours.flush().await.unwrap();
        let mut got = [0; 4];
        theirs.read_exact(&mut got).await.unwrap();
        if abort {
            pair.here.abort().await;
        } else {
            soon("the end", pair.here.shutdown()).await;
        }
        soon("the end", pair.back.closed()).await;
        let mut rest = Vec::new();
        let error = soon("the end", theirs.read_to_end(&mut rest)).await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        assert!(why(&error).is_closed());
        assert_eq!(rest, b" words");
        let error = theirs.write(b"x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert!(ours.read_u8().await.is_err() && ours.write(b"x").await.is_err());
        assert!(pair.peer.open("x").await.unwrap_err().is_closed());
        drop((ours, theirs));
        soon("the end", pair.there.shutdown()).await;
        assert!(soon("the end", incoming.accept()).await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_waits_for_a_place() {
    let pair = Pair::memory().await;
    let mut incoming = pair.there.accept_streams("x").unwrap();
    let mut open = Vec::new();
    for _ in 0..MAX_STREAMS {
        open.push(pair.open(&mut incoming).await);
    }
    let mut next = tokio_test::task::spawn(pair.peer.open("x"));
    assert!(next.poll().is_pending());
    // The other direction has places of its own.
    let mut back = pair.here.accept_streams("y").unwrap();
    let (one, two) = tokio::join!(pair.back.open("y"), back.accept());
    drop((one.unwrap(), two.unwrap()));
    // One side has ended: the other must have, too, and have dropped it.
    let (mut ours, mut theirs) = open.swap_remove(3);
    ours.shutdown().await.unwrap();
    copy(&mut theirs, &mut empty()).await.unwrap();
    theirs.shutdown().await.unwrap();
    copy(&mut ours, &mut empty()).await.unwrap();
    drop(ours);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(next.poll().is_pending());
    drop(theirs);
    assert!(next.await.is_ok());
}

/// Listens on the channel, and says nothing.
struct Liar;

impl Plugin for Liar {
    fn register(&self, app: &mut Registrar) {
        app.channel(CHANNEL, |_, _| async {});
    }
}

#[tokio::test]
async fn a_peer_that_breaks_the_rules_is_shown_the_door() {
    let stream = StreamId {
        opener: Opener::Sender,
        number: 7,
    };
    let frames = [
        Bytes::from_static(b"no frame"),
        StreamFrame::End { stream }.encode(),
        StreamFrame::Places { streams: 9 }.encode(),
        StreamFrame::Data {
            stream,
            bytes: Bytes::from_static(b"x"),
        }
        .encode(),
    ];
    for frame in frames {
        let network = Memory::new();
        let here = node(&network, "here:1", App::new().plugin(Liar)).await;
        let there = node(&network, "there:2", App::new().plugin(Streams::new())).await;
        let mut events = there.events();
        let pair = Pair::of(here, there, "there:2").await;
        for _ in 0..6 {
            let _ = pair.peer.send_on(CHANNEL, frame.clone()).await;
        }
        soon("the end", pair.peer.closed()).await;
        let mut faults = 0;
        loop {
            match soon("an event", events.next()).await {
                Some(Event::Error { error, .. }) if error.is_penalty() => faults += 1,
                Some(Event::PeerDisconnected { .. }) => break,
                Some(_) => {}
                None => panic!("the mesh runs"),
            }
        }
        assert_eq!(faults, 6);
    }
}

#[tokio::test]
async fn a_peer_that_never_answers_can_be_waited_for_and_left() {
    let network = Memory::new();
    let here = node(&network, "here:1", App::new().plugin(Streams::new())).await;
    let there = node(&network, "there:2", App::new().plugin(Liar)).await;
    let pair = Pair::of(here, there, "there:2").await;
    let mut open = tokio_test::task::spawn(pair.peer.open("x"));
    assert!(open.poll().is_pending());
    drop(open);
    let open = pair.peer.open("x");
    let (error, ()) = tokio::join!(open, async { pair.back.disconnect("enough") });
    assert!(error.unwrap_err().is_closed());
}
