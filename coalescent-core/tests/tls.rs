//! Identities: whole meshes over TLS, and who does not get in.

#![cfg(feature = "tls")]

mod common;

use coalescent_core::identity::Identity;
use coalescent_core::transport::tls::Tls;
use coalescent_core::{App, Event, Events, Mesh, PeerId};
use common::{ByHand, soon, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn listening(identity: &Identity) -> Mesh {
    let app = App::new().identity(identity.clone());
    app.listen("127.0.0.1:0").await.expect("a free port")
}

fn key(identity: &Identity) -> PeerId {
    PeerId::Key(*identity.id().as_bytes())
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
    let answer = alice.broadcast_payload("hello, bob").await;
    assert_eq!(answer.queued, 1);
    let stats = bob.shutdown().await;
    assert_eq!((stats.received, stats.dropped), (1, 0));
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
    let hello = common::hello(plain.node, "");
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
    App::new()
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
