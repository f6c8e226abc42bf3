//! Who pays for what cannot be handled: whoever made it, and nobody who passed it on.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use coalescent::codec::Codec;
use coalescent::extract::Body;
use coalescent::prelude::*;
use coalescent::{BoxError, DisconnectReason, Error, MeshReader, PeerLayer, Router};
use support::mesh::addr;
use support::soon;
use tower::filter::FilterLayer;
use tower::limit::ConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;
use tower::timeout::TimeoutLayer;

/// More than a peer may send in a minute of what it must not.
const MORE: usize = 250;

/// What no codec takes for a message.
const JUNK: &[u8] = &[0xc1];

/// Waits until a condition holds.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    soon(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// A node, and why its peers left.
struct Node {
    mesh: Mesh,
    ends: Arc<Mutex<Vec<DisconnectReason>>>,
}

impl Node {
    async fn start<L: PeerLayer>(app: App<L>) -> Self {
        let app = app.min_peers(0);
        let mesh = app.listen("127.0.0.1:0").await.expect("a free port");
        let ends = Arc::<Mutex<Vec<_>>>::default();
        let all = Arc::clone(&ends);
        mesh.on_event(move |event| {
            if let Event::PeerDisconnected { reason, .. } = event {
                all.lock().unwrap().push(reason);
            }
        });
        Self { mesh, ends }
    }

    fn ends(&self) -> Vec<DisconnectReason> {
        self.ends.lock().unwrap().clone()
    }
}

/// Four nodes in a line, over loopback TCP. At its beginning is a publisher, which has no courier
/// and says what it likes.
struct Line {
    publisher: Node,
    nodes: Vec<Node>,
}

impl Line {
    async fn start<L: PeerLayer>(build: impl Fn() -> App<L>, publisher: App) -> Self {
        let publisher = Node::start(publisher).await;
        let mut nodes: Vec<Node> = Vec::new();
        for _ in 0..4 {
            let node = Node::start(build()).await;
            let before = nodes.last().unwrap_or(&publisher);
            let connected = node.mesh.connect(&addr(&before.mesh)).await;
            connected.expect("the node before it");
            nodes.push(node);
        }
        let line = Self { publisher, nodes };
        until("a line", || line.peers() == [2, 2, 2, 1]).await;
        line
    }

    fn peers(&self) -> Vec<usize> {
        let peers = self.nodes.iter().map(|node| node.mesh.peers().len());
        peers.collect()
    }

    async fn says(&self, payload: impl Into<Vec<u8>>) {
        let payload = payload.into();
        for _ in 0..MORE {
            let _ = self
                .publisher
                .mesh
                .broadcast_payload(payload.clone())
                .await
                .unwrap();
        }
    }

    /// What is said at one end is still heard at the other, after all that was said before, and
    /// everybody is there.
    async fn is_whole(&self, what: &str) {
        let far = &self.nodes[3].mesh;
        let (mut near_heard, mut far_heard) = (self.publisher.mesh.reader(), far.reader());
        let honest = message("honest", &1);
        let _ = self
            .publisher
            .mesh
            .broadcast_payload(honest.clone())
            .await
            .unwrap();
        let _ = far.broadcast_payload(honest.clone()).await.unwrap();
        hears(what, &mut far_heard, &honest).await;
        hears(what, &mut near_heard, &honest).await;
        assert_eq!(self.peers(), [2, 2, 2, 1], "{what}");
        for node in self.nodes.iter().chain([&self.publisher]) {
            assert!(node.ends().is_empty(), "{what}: {:?}", node.ends());
        }
    }
}

fn message(kind: &str, body: &impl serde::Serialize) -> Vec<u8> {
    let encoded = Codec::msgpack().encode_body(kind, body);
    encoded.expect("a message").to_vec()
}

async fn hears(what: &str, heard: &mut MeshReader, payload: &[u8]) {
    soon(what, async {
        while heard.next_frame().await.expect("a running mesh").payload() != payload {}
    })
    .await;
}

/// Runs a line of nodes that `$build` builds, whose publisher says `$said`.
macro_rules! stays_whole {
    ($what:literal, $said:expr, $build:expr) => {
        let build = || $build(App::new());
        let line = Line::start(build, App::new()).await;
        line.says($said).await;
        line.is_whole($what).await;
    };
}

#[tokio::test]
async fn junk_that_was_passed_on_cuts_no_link() {
    stays_whole!("a relay outside of the courier", JUNK, |app: App| {
        app.with(SmartRelay::new()).with(Courier::new())
    });
    stays_whole!("a relay that knows no duplicates", JUNK, |app: App| {
        app.with(Tattletale::new()).with(Courier::new())
    });
    stays_whole!("a relay inside of the courier", JUNK, |app: App| {
        app.with(Courier::new()).with(SmartRelay::new())
    });
    stays_whole!("a relay that comes after", JUNK, |app: App| {
        app.with(SmartRelay::new().relay_after())
            .with(Courier::new())
    });
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn junk_that_was_passed_on_cuts_no_link_between_known_keys() {
    let identity = || App::new().identity(coalescent::identity::Identity::generate());
    let build = || identity().with(SmartRelay::new()).with(Courier::new());
    let line = Line::start(build, identity()).await;
    line.says(JUNK).await;
    line.is_whole("over TLS").await;
}

#[tokio::test]
async fn what_handlers_refuse_of_what_was_passed_on_cuts_no_link() {
    async fn number(Body(_): Body<u64>) {}
    async fn fails() -> Result<(), BoxError> {
        Err("not here".into())
    }
    async fn panics() {
        panic!("not with me");
    }
    let app = |app: App| {
        let routes = Router::new()
            .route("number", number)
            .route("fails", fails)
            .route("panics", panics);
        app.with(SmartRelay::new())
            .with(Courier::new())
            .with(routes)
    };
    let other_version = message("number", &"a text");
    stays_whole!("a body of another version", other_version, app);
    stays_whole!("a handler's error", message("fails", &()), app);
    stays_whole!("a handler's panic", message("panics", &()), app);
}

#[tokio::test]
async fn an_offence_that_was_passed_on_cuts_no_link() {
    let app = |app: App| app.with(SmartRelay::new()).layer(checksums());
    stays_whole!("a layer's own check", "bad", app);
}

#[tokio::test]
async fn on_wires_without_kinds_all_may_have_been_passed_on() {
    for wire in [Wire::lines(), Wire::raw()] {
        let relay = |app: App| {
            app.wire(wire.clone())
                .with(Tattletale::new())
                .with(Courier::json())
        };
        let hub = Node::start(relay(App::new())).await;
        let publisher = Node::start(App::new().wire(wire.clone())).await;
        let connected = publisher.mesh.connect(&addr(&hub.mesh)).await;
        let peer = connected.expect("the hub");
        for said in 0..MORE {
            // One by one: on a wire without boundaries a frame is what one read brought.
            let _ = publisher
                .mesh
                .broadcast_payload("no message")
                .await
                .unwrap();
            let received = || hub.mesh.stats().received as usize;
            until("it has come", || received() > said).await;
        }
        let mut heard = hub.mesh.reader();
        let honest = br#"{"type":"honest","body":1}"#;
        peer.send_payload(honest.to_vec()).await.expect("a peer");
        hears("after it all", &mut heard, honest).await;
        assert!(hub.ends().is_empty(), "{wire:?}: {:?}", hub.ends());
    }
}

/// Two nodes, of which one asks the other.
struct Asking {
    asked: Node,
    _asker: Node,
    peer: Peer,
}

impl Asking {
    async fn start<L: PeerLayer>(app: App<L>) -> Self {
        let asked = Node::start(app).await;
        let asker = Node::start(App::new().with(Courier::new())).await;
        let peer = asker.mesh.connect(&addr(&asked.mesh)).await;
        Self {
            peer: peer.expect("a node that listens"),
            asked,
            _asker: asker,
        }
    }

    /// Asks and tells more often than a peer may do what it must not, and then once what is known.
    async fn keeps_its_peer(&self, what: &str, kind: &str, body: &impl serde::Serialize) {
        for _ in 0..MORE {
            let refused = soon(what, self.peer.request(kind, body)).await;
            let error = refused.expect_err(what);
            assert!(error.is_failed() || error.is_no_answer(), "{what}: {error}");
            self.peer.send(kind, body).await.expect("a peer");
        }
        let answer = soon(what, self.peer.request("known", &())).await;
        assert_eq!(answer.expect(what).kind(), "known", "{what}");
        assert!(self.asked.ends().is_empty(), "{what}");
    }
}

async fn known() -> Message {
    Message::new("known", &())
}

#[tokio::test]
async fn an_error_is_the_answer_to_a_request_and_no_offence() {
    async fn number(Body(_): Body<u64>) {}
    async fn fails() -> Result<(), BoxError> {
        Err("not here".into())
    }
    async fn panics() {
        panic!("not with me");
    }
    async fn large() -> Message {
        Message::new("large", &vec!["x"; 1000])
    }
    let routes = Router::new()
        .route("known", known)
        .route("number", number)
        .route("fails", fails)
        .route("panics", panics)
        .route("large", large);
    let without_fallback = App::new().max_frame(500).with(Courier::new());
    let asking = Asking::start(without_fallback.with(routes.clone())).await;
    for (what, kind) in [
        ("nobody knows it", "unheard of"),
        ("a handler's error", "fails"),
        ("a handler's panic", "panics"),
        ("a body of another version", "number"),
        ("an answer that does not fit", "large"),
    ] {
        asking.keeps_its_peer(what, kind, &"a text").await;
    }
    let not_found = App::new().with(Courier::new()).with(routes.fallback(fails));
    let asking = Asking::start(not_found).await;
    let what = "a fallback that says: not found";
    asking.keeps_its_peer(what, "unheard of", &()).await;
}

#[tokio::test]
async fn a_layer_that_is_full_or_in_a_hurry_is_nobodys_offence() {
    async fn hangs() {
        std::future::pending::<()>().await;
    }
    let routes = || {
        Router::new()
            .route("known", known)
            .route("hangs", hangs)
            .route("nothing", async || {})
    };
    let hurry = App::new()
        .concurrency(64)
        .layer(TimeoutLayer::new(Duration::from_millis(1)));
    let asking = Asking::start(hurry.with(Courier::new()).with(routes())).await;
    asking.keeps_its_peer("a timeout", "hangs", &()).await;

    let full = App::new()
        .concurrency(64)
        .with(Courier::new())
        .layer(LoadShedLayer::new())
        .layer(ConcurrencyLimitLayer::new(1));
    let asking = Asking::start(full.with(routes())).await;
    let hanging = asking.peer.request("hangs", &());
    tokio::pin!(hanging);
    let refused = async {
        for _ in 0..MORE {
            let refused = asking.peer.request("nothing", &()).await;
            assert!(refused.is_err(), "it is full");
        }
    };
    tokio::select! {
        _ = &mut hanging => panic!("it hangs"),
        () = refused => {}
    }
    assert!(asking.asked.ends().is_empty() && asking.peer.is_connected());
}

#[tokio::test]
async fn a_panic_inside_of_a_buffer_that_is_caught_there_costs_its_peer_nothing() {
    let panics = tower::layer::layer_fn(|inner| {
        let ask = |frame: Frame| {
            assert!(frame.payload() != b"bad", "cannot stand it");
            frame
        };
        tower::util::MapRequest::new(inner, ask)
    });
    let app = App::new()
        .layer(tower::buffer::BufferLayer::<Frame>::new(8))
        .with(coalescent::CatchPanic::new())
        .layer(panics);
    let node = Node::start(app).await;
    let sender = Node::start(App::new()).await;
    let peer = sender.mesh.connect(&addr(&node.mesh)).await.unwrap();
    for _ in 0..MORE {
        let failed = peer.request_payload("bad").await.unwrap_err();
        assert!(failed.is_failed(), "{failed}");
    }
    let answer = peer.request_payload("good").await.unwrap_err();
    assert!(answer.is_no_answer(), "{answer}");
    assert!(node.ends().is_empty() && peer.is_connected());
}

/// Refuses, as no version of the program would have sent it, what is bad; and merely fails with
/// what is unlucky.
fn checksums() -> FilterLayer<impl FnMut(Frame) -> Result<Frame, BoxError> + Clone> {
    #[derive(Debug)]
    struct Around(Error);
    impl std::fmt::Display for Around {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("in a layer of somebody else's")
        }
    }
    impl std::error::Error for Around {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }
    FilterLayer::new(|frame: Frame| match frame.payload() {
        b"bad" => Err(Around(Error::offence("the checksum is wrong")).into()),
        b"unlucky" => Err("come again".into()),
        _ => Ok(frame),
    })
}

/// What a peer sends until it is disconnected.
#[derive(Clone, Copy, Debug)]
enum Sends {
    Frames,
    Requests,
}

/// Lets a peer send `payload` as often as it may, which costs it nothing, and then once more.
async fn pays<L: PeerLayer>(app: App<L>, sends: Sends, payload: &'static [u8]) {
    let guilty = Node::start(app).await;
    let sender = Node::start(App::new()).await;
    let peer = sender.mesh.connect(&addr(&guilty.mesh)).await.unwrap();
    let send = async || match sends {
        Sends::Frames => peer.send_payload(payload).await.is_ok(),
        Sends::Requests => {
            let refused = peer.request_payload(payload).await;
            refused.unwrap_err().is_failed()
        }
    };
    let budget = u64::from(guilty.mesh.peers().config().error_budget);
    // What it has only passed on takes nothing from it.
    for _ in 0..MORE {
        let _ = sender.mesh.broadcast_payload(payload).await.unwrap();
    }
    for _ in 0..budget {
        assert!(send().await, "{sends:?}: it may do so");
    }
    let known = MORE as u64 + budget;
    until("all has come", || guilty.mesh.stats().received == known).await;
    assert!(guilty.ends().is_empty(), "{sends:?}: {:?}", guilty.ends());
    assert!(peer.is_connected());

    // Whether it is still answered or not.
    send().await;
    until("its end", || !guilty.ends().is_empty()).await;
    let ends = guilty.ends();
    assert!(
        matches!(&ends[..], [DisconnectReason::TooManyErrors]),
        "{sends:?}: {ends:?}"
    );
}

#[tokio::test]
async fn who_made_it_pays_for_it() {
    for sends in [Sends::Frames, Sends::Requests] {
        pays(App::new().with(Courier::new()), sends, JUNK).await;
        // A relay outside of the courier has passed it on before.
        let relaying = App::new().with(SmartRelay::new()).with(Courier::json());
        pays(relaying, sends, b"no message").await;
        pays(App::new().layer(checksums()), sends, b"bad").await;
    }
}

#[tokio::test]
async fn a_layers_plain_error_costs_its_peer_nothing() {
    let node = Node::start(App::new().layer(checksums())).await;
    let sender = Node::start(App::new()).await;
    let peer = sender.mesh.connect(&addr(&node.mesh)).await.unwrap();
    for _ in 0..MORE {
        peer.send_payload("unlucky").await.unwrap();
        assert!(peer.request_payload("unlucky").await.is_err());
    }
    assert!(node.ends().is_empty() && peer.is_connected());
}
