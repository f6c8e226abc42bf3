//! Identities: whole meshes over TLS, and who does not get in.

use coalescent_core::connection::ConnectionInfo;
use coalescent_core::identity::Identity;
use coalescent_core::transport::tls::Tls;
use coalescent_core::wire::{Kind, NodeId};
use coalescent_core::{App, Event, Events, Mesh, PeerId};
use support::{ByHand, soon, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn listening(identity: &Identity) -> Mesh {
    let app = App::new().identity(identity.clone());
    app.listen("127.0.0.1:0").await.expect("a free port")
}

fn key(identity: &Identity) -> PeerId {
    PeerId::Key(identity.id())
}

/// What happened on a mesh that has ended: no peer, and how many errors.
async fn only_errors(mut events: Events) -> usize {
    let mut errors = 0;
    while let Some(event) = soon("an event", events.next()).await {
        match event {
            Event::Error { peer: None, .. } => errors += 1,
            Event::Listening { .. } => {}
            other => panic!("somebody got in: {other:?}"),
        }
    }
    errors
}

#[tokio::test]
async fn a_peer_is_known_by_its_key() {
    let (alice_key, bob_key) = (Identity::generate(), Identity::generate());
    let alice = listening(&alice_key).await;
    let mut heard = alice.reader();
    let bob = App::new().identity(bob_key.clone()).start().await.unwrap();
    let addr = format!("{}@{}", alice_key.id(), alice.local_addrs()[0]);
    let peer = bob.connect(&addr).await.unwrap();
    assert_eq!(*peer.id(), key(&alice_key));

    peer.send_payload(vec![7; 1_000_000]).await.unwrap();
    let frame = soon("the frame", heard.next_frame()).await.unwrap();
    assert_eq!(*frame.peer().id(), key(&bob_key));
    assert_eq!(frame.payload().len(), 1_000_000);
    let answer = alice.broadcast_payload("hello, bob").await.unwrap();
    assert_eq!(answer.queued, 1);
    let stats = bob.shutdown().await;
    assert_eq!((stats.received, stats.dropped), (1, 0));
}

#[tokio::test]
async fn who_finds_no_place_is_told_after_the_tls_handshake() {
    let app = App::new().identity(Identity::generate()).max_inbound(1);
    let mesh = app.listen("127.0.0.1:0").await.unwrap();
    let addr = mesh.local_addrs()[0].to_string();
    let dialler = || App::new().identity(Identity::generate()).start();
    let first = dialler().await.unwrap();
    first.connect(&addr).await.unwrap();
    until("the first has the place", || mesh.peers().len() == 1).await;
    let second = dialler().await.unwrap();
    for _ in 0..20 {
        let refused = second.connect(&addr).await.unwrap_err();
        assert!(refused.is_busy(), "{refused}");
    }
    first.shutdown().await;
    until("the place is free", || mesh.peers().is_empty()).await;
    second.connect(&addr).await.unwrap();
    let key = second.public_key().unwrap();
    until("it is known by its key", || {
        let list = mesh.peers().list();
        list.iter().any(|peer| *peer.id() == PeerId::Key(key))
    })
    .await;
}

#[tokio::test]
async fn a_seed_with_another_key_is_not_spoken_with() {
    let impostor = listening(&Identity::generate()).await;
    let events = impostor.events();
    let bob = App::new()
        .identity(Identity::generate())
        .start()
        .await
        .unwrap();
    let expected = Identity::generate().id();
    let addr = format!("{expected}@{}", impostor.local_addrs()[0]);
    let error = bob.connect(&addr).await.unwrap_err();
    assert!(error.is_handshake(), "{error}");
    assert!(bob.peers().is_empty());
    impostor.shutdown().await;
    only_errors(events).await;
}

#[tokio::test]
async fn a_key_that_is_not_on_the_list_is_refused_on_either_side() {
    let (alice_key, bob_key) = (Identity::generate(), Identity::generate());
    let tls = Tls::new(alice_key.clone()).allow([Identity::generate().id()]);
    let alice = App::new().tls(tls).listen("127.0.0.1:0").await.unwrap();
    let events = alice.events();
    let bob = App::new().identity(bob_key.clone()).start().await.unwrap();
    let addr = alice.local_addrs()[0].to_string();
    let error = bob.connect(&addr).await.unwrap_err();
    assert!(error.is_handshake(), "{error}");
    alice.shutdown().await;
    assert_eq!(only_errors(events).await, 1);

    // And the other way round: the dialling side has the list.
    let alice = listening(&alice_key).await;
    let tls = Tls::new(bob_key).allow([Identity::generate().id()]);
    let picky = App::new().tls(tls).start().await.unwrap();
    let addr = alice.local_addrs()[0].to_string();
    assert!(picky.connect(&addr).await.unwrap_err().is_handshake());
}

#[tokio::test]
async fn who_speaks_no_tls_gets_neither_an_event_nor_a_byte() {
    let alice = listening(&Identity::generate()).await;
    let mut heard = alice.reader();
    let events = alice.events();
    let addr = alice.local_addrs()[0];
    // Our own wire without TLS, and with a frame behind the introduction.
    let mut plain = ByHand::new(TcpStream::connect(addr).await.unwrap());
    let hello = support::hello(plain.node, "");
    plain.send(coalescent_core::wire::Kind::Hello, hello).await;
    let mut rest = Vec::new();
    let _ = soon("the end", plain.framed.get_mut().read_to_end(&mut rest)).await;
    assert!(
        !rest.windows(4).any(|bytes| bytes == b"node"),
        "no introduction in plaintext"
    );

    let mut web = TcpStream::connect(addr).await.unwrap();
    web.write_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        .await
        .unwrap();
    let _ = soon("the end", web.read_to_end(&mut rest)).await;
    alice.shutdown().await;
    assert_eq!(only_errors(events).await, 2);
    assert!(heard.next_frame().await.is_none());
}

#[tokio::test]
async fn a_node_with_an_identity_does_not_fall_back_to_plaintext() {
    let plain = App::new().listen("127.0.0.1:0").await.unwrap();
    let mut events = plain.events();
    let bob = App::new()
        .identity(Identity::generate())
        .start()
        .await
        .unwrap();
    let addr = plain.local_addrs()[0].to_string();
    let error = bob.connect(&addr).await.unwrap_err();
    assert!(error.is_handshake(), "{error}");
    let refused = soon("the refusal is reported", async {
        loop {
            if let Some(Event::Error { error, .. }) = events.next().await {
                return error;
            }
        }
    });
    assert!(refused.await.is_handshake());
    plain.shutdown().await;
    assert_eq!(only_errors(events).await, 0);

    // Nor does one without an identity dial a seed whose key it could not check.
    let bob = App::new().start().await.unwrap();
    let addr = format!("{}@127.0.0.1:9", Identity::generate().id());
    assert!(bob.connect(&addr).await.unwrap_err().is_config());
}

#[tokio::test]
async fn a_man_in_the_middle_is_found_out() {
    let (alice_key, bob_key) = (Identity::generate(), Identity::generate());
    let alice = listening(&alice_key).await;
    let events = alice.events();
    // He has a key of his own, and passes everything on.
    let middle = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let middle_addr = middle.local_addr().unwrap();
    let alice_addr = alice.local_addrs()[0];
    let own = Tls::new(Identity::generate());
    let meddling = tokio::spawn(async move {
        let (socket, _) = middle.accept().await.unwrap();
        let towards_bob = own.accept(socket).await;
        let alice = TcpStream::connect(alice_addr).await.unwrap();
        let towards_alice = own.connect(alice, None).await;
        if let (Ok((mut bob, _)), Ok((mut alice, _))) = (towards_bob, towards_alice) {
            let _ = tokio::io::copy_bidirectional(&mut bob, &mut alice).await;
        }
    });
    let bob = App::new().identity(bob_key).start().await.unwrap();
    let addr = format!("{}@{middle_addr}", alice_key.id());
    assert!(bob.connect(&addr).await.unwrap_err().is_handshake());
    soon("he gives up", meddling).await.unwrap();
    alice.shutdown().await;
    only_errors(events).await;
}

#[tokio::test]
async fn plaintext_beyond_loopback_must_be_allowed() {
    for addr in ["0.0.0.0:0", "[::]:0"] {
        let error = App::new().listen(addr).await.unwrap_err();
        assert!(error.is_plaintext(), "{error}");
    }
    let error = App::new()
        .start()
        .await
        .unwrap()
        .connect("192.0.2.1:1")
        .await
        .unwrap_err();
    assert!(error.is_plaintext(), "{error}");
    let _ = App::new()
        .allow_plaintext()
        .listen("0.0.0.0:0")
        .await
        .unwrap();
    let mesh = App::new()
        .identity(Identity::generate())
        .listen("0.0.0.0:0")
        .await
        .unwrap();

    // With an identity, seeds are found, and lost, as without.
    let addr = format!("127.0.0.1:{}", mesh.local_addrs()[0].port());
    let other = App::new()
        .identity(Identity::generate())
        .seeds([addr])
        .start()
        .await
        .unwrap();
    until("they are connected", || {
        mesh.peers().len() == 1 && other.peers().len() == 1
    })
    .await;
}

/// Connects by hand with a key, under a number.
async fn by_hand(
    mesh: &Mesh,
    identity: &Identity,
    node: NodeId,
) -> ByHand<coalescent_core::transport::tls::TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(mesh.local_addrs()[0]).await.unwrap();
    let (io, _) = Tls::new(identity.clone()).connect(tcp, None).await.unwrap();
    let mut peer = ByHand::new(io);
    peer.node = node;
    peer.send(Kind::Hello, support::hello(node, "")).await;
    assert_eq!(peer.recv().await.expect("a hello").kind, Kind::Hello);
    peer
}

#[tokio::test]
async fn a_copied_number_neither_keeps_its_node_out_nor_gets_its_place() {
    let (alice_key, bob_key) = (Identity::generate(), Identity::generate());
    let stranger_key = Identity::generate();
    for stranger_first in [true, false] {
        let tls = Tls::new(alice_key.clone()).allow([bob_key.id(), stranger_key.id()]);
        let alice = App::new().tls(tls).listen("127.0.0.1:0").await.unwrap();
        let bob = App::new().identity(bob_key.clone()).start().await.unwrap();
        let mut heard = bob.reader();
        let pinned = format!("{}@{}", alice_key.id(), alice.local_addrs()[0]);
        let number = bob.peers().node_id();
        let mut stranger = if stranger_first {
            let stranger = by_hand(&alice, &stranger_key, number).await;
            until("it is in", || alice.peers().len() == 1).await;
            bob.connect(&pinned).await.unwrap();
            stranger
        } else {
            bob.connect(&pinned).await.unwrap();
            by_hand(&alice, &stranger_key, number).await
        };
        until("both are in", || alice.peers().len() == 2).await;
        let to_bob = alice.peers().find(&key(&bob_key)).expect("bob");
        let to_stranger = alice.peers().find(&key(&stranger_key)).expect("the other");
        to_bob.send_payload("for bob").await.unwrap();
        to_stranger.send_payload("not for bob").await.unwrap();
        let frame = soon("a frame", heard.next_frame()).await.unwrap();
        assert_eq!(frame.payload(), b"for bob");
        assert_eq!(stranger.recv_frame().await.unwrap().payload, "not for bob");
    }
}

#[tokio::test]
async fn who_copies_this_nodes_number_loses_its_own_connection_alone() {
    let (alice_key, stranger_key) = (Identity::generate(), Identity::generate());
    let alice = listening(&alice_key).await;
    let number = alice.peers().node_id();
    let mut stranger = by_hand(&alice, &stranger_key, number).await;
    assert_eq!(stranger.expect_bye().await, "this node has that number");
    assert!(alice.peers().is_empty());

    // Nor does one that is dialled make the node believe that it has dialled itself.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let echoing = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let (io, _) = Tls::new(stranger_key).accept(tcp).await.unwrap();
        let mut peer = ByHand::new(io);
        let hello = peer.recv().await.expect("a hello");
        peer.send(Kind::Hello, hello.payload).await;
        peer.expect_bye().await
    });
    let error = alice.connect(&addr).await.unwrap_err();
    assert!(error.is_refused(), "{error}");
    assert!(!error.to_string().contains("itself"), "{error}");
    assert_eq!(echoing.await.unwrap(), "this node has that number");

    // The own key is what tells.
    let own = alice.local_addrs()[0].to_string();
    let error = alice.connect(&own).await.unwrap_err();
    assert!(error.to_string().contains("this node itself"), "{error}");
}

#[tokio::test]
async fn one_key_is_one_peer_whatever_its_numbers() {
    let (alice_key, bob_key) = (Identity::generate(), Identity::generate());
    let alice = listening(&alice_key).await;
    let mut first = by_hand(&alice, &bob_key, NodeId::random()).await;
    until("it is in", || alice.peers().len() == 1).await;
    let peer = alice.peers().list()[0].clone();
    // Another process with the same key, while the first is there and says so.
    let mut second = by_hand(&alice, &bob_key, NodeId::random()).await;
    let answering = tokio::spawn(async move {
        while let Some(packet) = first.recv().await {
            if packet.kind == Kind::Ping {
                first.send(Kind::Pong, packet.payload).await;
            }
        }
    });
    assert_eq!(second.expect_bye().await, "already connected");
    assert!(peer.is_connected());
    answering.abort();
    until("the first is gone", || alice.peers().is_empty()).await;
    let _third = by_hand(&alice, &bob_key, NodeId::random()).await;
    until("another is in", || alice.peers().len() == 1).await;
    assert_ne!(alice.peers().list()[0], peer);
}

#[tokio::test]
async fn the_list_of_keys_changes_while_the_mesh_runs() {
    let (alice_key, bob_key) = (Identity::generate(), Identity::generate());
    for listed in [true, false] {
        let mut tls = Tls::new(alice_key.clone());
        if listed {
            tls = tls.allow([]);
        }
        let alice = App::new().tls(tls).listen("127.0.0.1:0").await.unwrap();
        let bob = App::new().identity(bob_key.clone()).start().await.unwrap();
        let addr = alice.local_addrs()[0].to_string();
        let bob_id = bob_key.id();

        // A list has to be joined; without one, somebody has to be left out.
        assert_eq!(alice.allow(bob_id).unwrap(), listed);
        assert!(!alice.allow(bob_id).unwrap(), "he is on it already");
        let peer = bob.connect(&addr).await.unwrap();
        soon("bob", alice.connected(1)).await.unwrap();

        assert!(alice.disallow(&bob_id).unwrap());
        let reason = soon("he is cut off", peer.closed()).await;
        assert!(reason.to_string().contains("not allowed"), "{reason}");
        assert!(!alice.disallow(&bob_id).unwrap());
        let error = bob.connect(&addr).await.unwrap_err();
        assert!(error.is_handshake(), "{error}");

        assert!(alice.allow(bob_id).unwrap());
        bob.connect(&addr).await.unwrap();

        // It holds for those that are dialled, and for those that are adopted by their key.
        assert!(bob.disallow(&alice_key.id()).unwrap());
        until("they part", || bob.peers().is_empty()).await;
        let pinned = format!("{}@{addr}", alice_key.id());
        assert!(bob.connect(&pinned).await.unwrap_err().is_handshake());
        let (_here, there) = tokio::io::duplex(1024);
        let info = ConnectionInfo::inbound().key(alice_key.id());
        assert!(bob.adopt(there, info).await.unwrap_err().is_refused());
    }

    let plain = App::new().start().await.unwrap();
    for result in [plain.allow(bob_key.id()), plain.disallow(&bob_key.id())] {
        assert!(result.unwrap_err().is_config());
    }
}

#[tokio::test]
async fn a_socket_that_is_accepted_speaks_tls_if_the_mesh_does() {
    let (alice_key, bob_key) = (Identity::generate(), Identity::generate());
    let alice = App::new().identity(alice_key).start().await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let bob = App::new().identity(bob_key.clone()).start().await.unwrap();
    let (dialled, accepted) = tokio::join!(bob.connect(&addr), async {
        let (io, addr) = listener.accept().await.unwrap();
        alice.accept(io, addr).await
    });
    dialled.unwrap();
    assert_eq!(*accepted.unwrap().id(), key(&bob_key));
}
