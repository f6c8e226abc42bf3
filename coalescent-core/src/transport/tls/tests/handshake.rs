//! Tests of handshakes between two nodes: who is accepted, and what each side learns.

use std::io::ErrorKind;

use super::*;

#[tokio::test(start_paused = true)]
async fn each_side_learns_the_others_key() {
    let (bob, alice) = (node(), node());
    for expected in [None, Some(bob.id())] {
        let (accepted, connected) = meet(&bob, &alice, expected).await;
        let ((accepted, from), (connected, to)) = (accepted.unwrap(), connected.unwrap());
        assert_eq!((from, accepted.peer()), (alice.id(), alice.id()));
        assert_eq!((to, connected.peer()), (bob.id(), bob.id()));
    }
    assert!(
        CryptoProvider::get_default().is_none(),
        "a provider was installed for the whole process"
    );
}

#[tokio::test]
async fn each_side_learns_the_others_key_over_tcp() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (bob, alice) = (node(), node());
    let accept = async { bob.accept(listener.accept().await.unwrap().0).await };
    let connect = async {
        let socket = tokio::net::TcpStream::connect(address).await.unwrap();
        alice.connect(socket, Some(bob.id())).await
    };
    let (accepted, connected) = tokio::join!(accept, connect);
    let ((mut accepted, from), (mut connected, to)) = (accepted.unwrap(), connected.unwrap());
    assert_eq!((from, to), (alice.id(), bob.id()));
    assert_eq!(connected.get_ref().peer_addr().unwrap(), address);

    connected.write_all(b"ping").await.unwrap();
    connected.shutdown().await.unwrap();
    let mut heard = Vec::new();
    accepted.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"ping");
}

#[tokio::test(start_paused = true)]
async fn an_unexpected_key_is_rejected() {
    let (bob, alice, carol) = (node(), node(), node());
    let (accepted, connected) = meet(&bob, &alice, Some(carol.id())).await;
    let error = connected.unwrap_err();
    assert!(error.is_wrong_key());
    assert_eq!(error.peer(), Some(bob.id()));
    let text = error.to_string();
    assert!(text.contains(&carol.id().to_string()) && text.contains(&bob.id().to_string()));
    let told = accepted.unwrap_err();
    assert!(told.is_refused(), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_man_in_the_middle_learns_nothing() {
    let (bob, alice, mallory) = (node(), node(), Identity::generate());
    // He accepts any client, and would read on.
    let (error, handshake) = dialling_to(&alice, Some(bob.id()), server_of(&mallory)).await;
    assert!(error.is_wrong_key(), "{error}");
    assert_eq!(handshake, None, "he was shown a key");

    let friends_of_bob = alice.allow([bob.id()]);
    let (error, handshake) = dialling_to(&friends_of_bob, None, server_of(&mallory)).await;
    assert!(error.is_not_allowed(), "{error}");
    assert_eq!(handshake, None, "he was shown a key");
}

#[tokio::test(start_paused = true)]
async fn a_dialler_that_is_not_allowed_learns_it_at_the_first_read() {
    let (bob, alice, carol) = (node(), node(), node());
    let bob = bob.allow([carol.id()]);
    let (accepted, connected) = meet(&bob, &alice, Some(bob.id())).await;
    let error = accepted.unwrap_err();
    assert!(error.is_not_allowed());
    assert_eq!(error.peer(), Some(alice.id()));
    assert!(error.to_string().contains(&alice.id().to_string()));

    let (mut stream, _) = connected.unwrap();
    let error = soon(stream.read_u8()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    let told = error.get_ref().unwrap().downcast_ref::<TlsError>().unwrap();
    assert!(told.is_refused());
    assert!(told.to_string().contains(&alice.id().to_string()));

    assert!(meet(&bob, &carol, None).await.0.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_acceptor_that_is_not_allowed_is_rejected() {
    let (bob, alice, carol) = (node(), node(), node());
    let alice = alice.allow([carol.id()]);
    let (accepted, connected) = meet(&bob, &alice, None).await;
    let error = connected.unwrap_err();
    assert!(error.is_not_allowed());
    assert_eq!(error.peer(), Some(bob.id()));
    assert!(accepted.unwrap_err().is_refused());
    assert!(meet(&carol, &alice, None).await.1.is_ok());
    assert!(meet(&carol, &alice, Some(carol.id())).await.1.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_expected_key_that_is_not_allowed_is_never_dialled() {
    let (bob, carol) = (node(), node());
    let alice = node().allow([carol.id()]);
    let (mut a, b) = duplex(4096);
    let error = alice.connect(b, Some(bob.id())).await.unwrap_err();
    assert!(error.is_not_allowed());
    let mut sent = Vec::new();
    soon(a.read_to_end(&mut sent)).await.unwrap();
    assert_eq!(sent, b"");
}

#[tokio::test(start_paused = true)]
async fn an_empty_list_accepts_nobody_and_no_list_everybody() {
    let nobody = node().allow([]);
    assert!(meet(&nobody, &node(), None).await.0.is_err());
    assert!(meet(&node(), &nobody, None).await.1.is_err());
    let all = nobody.allow(Allow::all());
    assert!(meet(&all, &node(), None).await.0.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_list_replaces_the_previous_list() {
    let (alice, carol) = (node(), node());
    let bob = node().allow([alice.id()]).allow([carol.id()]);
    assert!(meet(&bob, &alice, None).await.0.is_err());
    assert!(meet(&bob, &carol, None).await.0.is_ok());
}

#[test]
fn debug_shows_ids_but_no_secret() {
    let tls = node();
    let text = format!("{tls:?}");
    assert!(text.contains(&tls.id().to_string()));
    assert!(
        !text.contains("ServerConfig") && !text.contains("key:"),
        "{text}"
    );
}

#[test]
fn a_stream_value_is_small() {
    assert!(size_of::<TlsStream<tokio::net::TcpStream>>() <= 80);
}

#[tokio::test]
async fn the_side_that_connects_begins_with_a_record_of_a_handshake() {
    // Servers that share a port go by it.
    let (near, mut far) = tokio::io::duplex(1024);
    let tls = Tls::new(Identity::generate());
    let connecting = tokio::spawn(async move { tls.connect(near, None).await.map(drop) });
    assert_eq!(far.read_u8().await.unwrap(), 0x16);
    drop(far);
    assert!(connecting.await.unwrap().is_err());
}
