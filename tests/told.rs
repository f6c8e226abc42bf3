//! What a node tells of its peers, in its log and as events: bounded whatever they do, and never a
//! lie.
//!
//! A binary of its own: tracing decides once per process whether a call site is enabled, so a test
//! without a subscriber on another thread could switch off what these tests wait for.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coalescent::event::LINES_PER_SOURCE;
use coalescent::prelude::*;
use coalescent::transport::Memory;
use coalescent::{BoxError, Events};
use support::mesh::{addr, event};
use support::soon;
use tokio::net::TcpStream;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

/// The log of this test's thread, on which all of its nodes run.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn start(level: tracing::Level) -> (Self, DefaultGuard) {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_ansi(false)
            .with_writer(log.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// The lines so far that have this in them.
    fn lines(&self, with: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).expect("text");
        let lines = text.lines().filter(|line| line.contains("coalescent"));
        let lines = lines.filter(|line| line.contains(with));
        lines.map(str::to_owned).collect()
    }

    /// How many lines were left out, by what the log says.
    fn left_out(&self) -> u64 {
        let lines = self.lines("were left out");
        let told = lines.iter().flat_map(|line| number_before(line, " more "));
        told.sum()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn number_before(text: &str, what: &str) -> Option<u64> {
    let (before, _) = text.split_once(what)?;
    before.rsplit(' ').next()?.parse().ok()
}

/// What was told as events until the mesh ended.
#[derive(Debug, Default)]
struct Told {
    connected: u64,
    disconnected: u64,
    errors: u64,
    left_out: u64,
}

async fn told(mut events: Events) -> Told {
    let mut told = Told::default();
    while let Some(event) = soon("an event", events.next()).await {
        match event {
            Event::PeerConnected { .. } => told.connected += 1,
            Event::PeerDisconnected { .. } => told.disconnected += 1,
            Event::Error { error, .. } if error.is_left_out() => {
                told.left_out += number_before(&error.to_string(), " more ").expect("a number");
            }
            Event::Error { .. } => told.errors += 1,
            Event::Missed(missed) => panic!("missed {missed}"),
            _ => {}
        }
    }
    told
}

/// Connects, sends more than it may, and leaves, over and over. Returns how many errors that made.
async fn storm(at: &Mesh, stranger: &Mesh, rounds: u64) -> u64 {
    let before = at.stats().received;
    for _ in 0..rounds {
        let peer = stranger.connect(&addr(at)).await.expect("a node");
        for _ in 0..101 {
            // Until it is cut off.
            let _ = peer.send_payload("no message").await;
        }
        soon("its end", peer.closed()).await;
        while !at.peers().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    at.stats().received - before
}

#[tokio::test]
async fn a_stranger_that_makes_errors_over_and_over_fills_no_log() {
    let (log, _guard) = Log::start(tracing::Level::INFO);
    let app = App::new().with(Courier::new()).min_peers(0);
    let node = app.listen("127.0.0.1:0").await.unwrap();
    // Read as they come, so that none is missed.
    let events = tokio::spawn(told(node.events()));
    let stranger = App::new().min_peers(0).start().await.unwrap();
    let rounds = 20;
    let made = storm(&node, &stranger, rounds).await;
    assert_eq!(made, rounds * 101);
    // The stranger is a node with a log of its own, which says as little.
    let limit = 2 * (LINES_PER_SOURCE as usize + 2);
    assert!(log.lines("").len() < limit, "{} lines", log.lines("").len());
    stranger.shutdown().await;
    node.shutdown().await;

    let events = events.await.unwrap();
    // Who counts peers counts right.
    assert_eq!((events.connected, events.disconnected), (rounds, rounds));
    assert_eq!(events.errors, u64::from(LINES_PER_SOURCE));
    assert_eq!(events.errors + events.left_out, made);
    let told = log.lines("").len() - log.lines("listening").len() - log.lines("left out").len();
    // Each round ends with a ban, from which loopback is exempt.
    let all = made + rounds + 2 * rounds + 2 * rounds;
    assert_eq!(
        told as u64 + log.left_out(),
        all,
        "errors, bans, and who came and went"
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_left_out_is_told_when_the_minute_is_over() {
    let (log, _guard) = Log::start(tracing::Level::WARN);
    let network = Memory::new();
    let app = || App::new().transport(network.clone()).min_peers(0);
    let refuse = tower::layer::layer_fn(|_| {
        tower::service_fn(async |_: Frame| Err::<Reply, BoxError>("not today".into()))
    });
    let node = app().layer(refuse).listen("node:1").await.unwrap();
    let mut events = node.events();
    let other = app().start().await.unwrap();
    let peer = other.connect("node:1").await.unwrap();
    for _ in 0..LINES_PER_SOURCE + 50 {
        peer.send_payload("?").await.unwrap();
    }
    let mut errors = 0;
    let minute_over = async {
        loop {
            match events.next().await.expect("a running mesh") {
                Event::Error { error, .. } if error.is_left_out() => return error.to_string(),
                Event::Error { .. } => errors += 1,
                _ => {}
            }
        }
    };
    // Nothing else happens meanwhile.
    let text = tokio::time::timeout(Duration::from_secs(61), minute_over).await;
    let text = text.expect("told within the minute");
    assert_eq!(number_before(&text, " more "), Some(50), "{text}");
    assert_eq!(errors, LINES_PER_SOURCE);
    assert_eq!(log.left_out(), 50);
    assert_eq!(log.lines("not today").len(), LINES_PER_SOURCE as usize);

    // And then there are lines again.
    peer.send_payload("?").await.unwrap();
    let again = event("an error", &mut events, |event| match event {
        Event::Error { error, .. } => Some(error),
        _ => None,
    });
    assert!(!again.await.is_left_out());
    assert!(peer.is_connected());
}

/// Connects and closes, as often as this, every other time with a reset.
async fn health_checks(at: &Mesh, checks: usize) {
    for check in 0..checks {
        let socket = TcpStream::connect(addr(at)).await.expect("a node");
        if check % 2 == 0 {
            let socket = socket2::SockRef::from(&socket);
            socket.set_linger(Some(Duration::ZERO)).expect("an option");
        }
    }
}

async fn are_no_warnings(app: App) {
    let (log, _guard) = Log::start(tracing::Level::DEBUG);
    let node = app.min_peers(0).listen("127.0.0.1:0").await.unwrap();
    let mut events = node.events();
    health_checks(&node, 50).await;
    let checked = "closed before anything came";
    soon("all checks", async {
        while log.lines(checked).len() < 50 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    // One that says something wrong is told of.
    let mut stranger = TcpStream::connect(addr(&node)).await.unwrap();
    let request = b"GET / HTTP/1.1\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stranger, request)
        .await
        .unwrap();
    let error = event("an error", &mut events, |event| match event {
        Event::Error { error, .. } => Some(error),
        _ => None,
    });
    let error = error.await;
    assert!(error.is_handshake() || error.is_timeout(), "{error}");
    let warnings = log.lines("WARN");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    node.shutdown().await;
}

#[tokio::test]
async fn health_checks_are_no_warnings() {
    are_no_warnings(App::new()).await;
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn health_checks_are_no_warnings_with_an_identity() {
    are_no_warnings(App::new().identity(coalescent::identity::Identity::generate())).await;
}

#[tokio::test(start_paused = true)]
async fn a_callback_that_panics_is_told_of_and_called_again() {
    let (log, _guard) = Log::start(tracing::Level::INFO);
    let network = Memory::new();
    let app = || App::new().transport(network.clone()).min_peers(0);
    let calls = Arc::<Mutex<Vec<Event>>>::default();
    let panics = || {
        let calls = Arc::clone(&calls);
        move |event| {
            calls.lock().unwrap().push(event);
            panic!("not in the mood");
        }
    };
    // Two, so that neither is told of the other's panics for ever.
    let node = app().on_event(panics()).listen("node:1").await.unwrap();
    let mut events = node.events();
    node.on_event(panics());
    let other = app().start().await.unwrap();
    for _ in 0..2 {
        let peer = other.connect("node:1").await.unwrap();
        peer.disconnect("seen");
        peer.closed().await;
        while !node.peers().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    node.shutdown().await;
    let mut panics = 0;
    while let Some(event) = events.next().await {
        if let Event::Error { peer, error } = event {
            assert!(error.is_callback() && peer.is_none(), "{error}");
            assert!(error.to_string().contains("not in the mood"), "{error}");
            panics += 1;
        }
    }
    // Two peers that came and went, told to two callbacks, and to the first that the node listens.
    let calls = calls.lock().unwrap();
    assert_eq!((calls.len(), panics), (9, 9), "{calls:?}");
    assert_eq!(log.lines("ERROR").len(), 9);
}
