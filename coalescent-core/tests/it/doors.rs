//! The doors of a mesh: sockets that listen or were accepted elsewhere, and hooks for who comes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use coalescent_core::transport::Memory;
use coalescent_core::wire::Kind;
use coalescent_core::{App, Error, Mesh, Peer, Wire};
use support::{ByHand, soon, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};

const FAR: SocketAddr = SocketAddr::new(
    std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
    7,
);

fn near() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7))
}

/// Accepts a peer that introduces itself.
async fn accept(mesh: &Mesh, addr: SocketAddr) -> Result<(ByHand<DuplexStream>, Peer), Error> {
    let (here, there) = tokio::io::duplex(64 * 1024);
    let place = mesh.admit(addr).await?;
    let (peer, accepted) = tokio::join!(ByHand::connect(here), place.accept(there));
    Ok((peer, accepted?))
}

#[tokio::test]
async fn sockets_that_listen_already_are_listened_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let mesh = App::new().listen_on(listener).await.unwrap();
    assert_eq!(mesh.local_addrs(), [addr]);
    let blocking = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let second = mesh.listen_on(blocking).unwrap().socket_addr().unwrap();
    assert_eq!(mesh.local_addrs(), [addr, second]);

    for addr in [addr, second] {
        let other = App::new().start().await.unwrap();
        other.connect(&addr.to_string()).await.unwrap();
        assert_eq!(other.broadcast_payload("hello").await.unwrap().queued, 1);
        soon("a peer", mesh.connected(1)).await.unwrap();
    }

    let open = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let error = mesh.listen_on(open).unwrap_err();
    assert!(error.is_plaintext(), "{error}");
    mesh.shutdown().await;
    let late = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(mesh.listen_on(late).unwrap_err().is_closed());
}

#[tokio::test]
async fn an_accepted_socket_is_a_peer_like_any_other() {
    let mesh = App::new().start().await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let accepting = tokio::spawn({
        let mesh = mesh.clone();
        async move {
            let (io, addr) = listener.accept().await.unwrap();
            (mesh.accept(io, addr).await.unwrap(), addr)
        }
    });
    let other = App::new().start().await.unwrap();
    let theirs = other.connect(&addr.to_string()).await.unwrap();
    let (peer, addr) = soon("a peer", accepting).await.unwrap();
    assert_eq!(peer.addr(), Some(addr));
    let mut heard = other.reader();
    assert_eq!(mesh.broadcast_payload("hello").await.unwrap().queued, 1);
    let frame = soon("it is heard", heard.next_frame()).await.unwrap();
    assert_eq!(frame.payload(), b"hello");
    theirs.disconnect("enough");
    soon("its end", peer.closed()).await;

    // On another wire than the app's.
    let (mut here, there) = tokio::io::duplex(1024);
    mesh.accept_wire(there, near(), Wire::lines())
        .await
        .unwrap();
    let _ = mesh.broadcast_payload("line").await.unwrap();
    let mut line = [0; 5];
    soon("a line", here.read_exact(&mut line)).await.unwrap();
    assert_eq!(&line, b"line\n");
}

#[tokio::test]
async fn accepted_sockets_count_towards_the_limits() {
    let app = || App::new().allow_plaintext();
    let mesh = app().max_inbound(2).start().await.unwrap();
    let (_first, _) = accept(&mesh, near()).await.unwrap();
    let place = mesh.admit(near()).await.unwrap();
    let (second, peer) = accept(&mesh, near()).await.unwrap();
    let error = accept(&mesh, near()).await.map(drop).unwrap_err();
    assert!(error.is_refused(), "{error}");
    assert!(
        error.report().to_string().contains("max_inbound"),
        "{error}"
    );
    // A place is no seat: the seats were taken meanwhile.
    let (here, there) = tokio::io::duplex(64 * 1024);
    let introduces_itself = async {
        let mut here = ByHand::new(here);
        let hello = support::hello(here.node, "");
        here.send(Kind::Hello, hello).await;
        here
    };
    let (_, late) = tokio::join!(introduces_itself, place.accept(there));
    assert!(late.unwrap_err().is_refused());
    drop(second);
    soon("its end", peer.closed()).await;
    accept(&mesh, near()).await.unwrap();

    let mesh = app()
        .configure(|config| config.max_per_ip = 1)
        .start()
        .await
        .unwrap();
    let place = mesh.admit(FAR).await.unwrap();
    let error = mesh.admit(FAR).await.unwrap_err();
    assert!(error.report().to_string().contains("max_per_ip"), "{error}");
    drop(place);
    let (_peer, _) = accept(&mesh, FAR).await.unwrap();
    assert!(accept(&mesh, FAR).await.map(drop).unwrap_err().is_refused());
    accept(&mesh, near()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_accepted_socket_that_is_no_peer_is_an_error_and_no_event() {
    let mesh = App::new().start().await.unwrap();
    let mut events = mesh.events();
    let (_silent, there) = tokio::io::duplex(1024);
    let error = mesh.accept(there, near()).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    let (mut web, there) = tokio::io::duplex(1024);
    web.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let error = mesh.accept(there, near()).await.unwrap_err();
    assert!(error.is_handshake(), "{error}");
    let (_, there) = tokio::io::duplex(1024);
    let error = mesh.accept(there, FAR).await.unwrap_err();
    assert!(error.is_plaintext(), "{error}");

    let (_silent, there) = tokio::io::duplex(1024);
    let (ended, accepted) = tokio::join!(mesh.shutdown(), mesh.accept(there, near()));
    assert_eq!(ended.received, 0);
    assert!(accepted.unwrap_err().is_closed());
    assert!(mesh.admit(near()).await.unwrap_err().is_closed());
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn a_socket_of_this_node_itself_is_no_peer() {
    for (wire, is_upgraded) in [
        (Wire::native(), false),
        (Wire::native(), true),
        (Wire::lines(), false),
        (Wire::lines(), true),
    ] {
        let has_numbers = wire.has_handshake();
        let mesh = App::new().wire(wire).start().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let (dialled, accepted) = tokio::join!(mesh.connect(&addr), async {
            let (io, addr) = listener.accept().await.unwrap();
            if is_upgraded {
                // As from a web server, which tells nothing of the socket.
                let (read, write) = io.into_split();
                mesh.accept(tokio::io::join(read, write), addr).await
            } else {
                mesh.accept(io, addr).await
            }
        });
        // Without numbers the end that comes first is a peer until the other comes.
        let (dialled, accepted) = (dialled.err(), accepted.err());
        assert!(dialled.is_some() || accepted.is_some());
        assert!(!has_numbers || (dialled.is_some() && accepted.is_some()));
        assert!(dialled.is_none_or(|error| error.is_itself()));
        assert!(accepted.is_none_or(|error| error.is_refused()));
        until("nobody is connected", || mesh.peers().is_empty()).await;
    }
}

/// The system gives the same local port to connections with different destinations, which may be
/// of this node and of another on its machine.
#[tokio::test]
async fn a_peer_from_a_port_that_this_node_has_dialled_from_is_no_connection_of_its_own() {
    for wire in [Wire::native(), Wire::lines()] {
        let mesh = App::new().wire(wire.clone()).start().await.unwrap();
        let dialled = App::new().wire(wire.clone()).listen("127.0.0.1:0").await;
        let dialled = dialled.unwrap();
        let addr = dialled.local_addrs()[0].to_string();
        let there = mesh.connect(&addr).await.unwrap();
        soon("a peer", dialled.connected(1)).await.unwrap();
        let port = dialled.peers().list()[0].addr().unwrap();

        let other = App::new().wire(wire).start().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let (came, accepted) = tokio::join!(other.connect(&addr), async {
            let (io, _) = listener.accept().await.unwrap();
            mesh.accept(io, port).await
        });
        assert!(came.is_ok() && accepted.is_ok(), "{accepted:?}");
        assert!(there.is_connected());
        assert_eq!(mesh.peers().len(), 2);
    }
}

#[tokio::test]
async fn closures_are_run_for_those_who_come_and_go() {
    let network = Memory::new();
    let told: Arc<Mutex<Vec<&str>>> = Arc::default();
    let tell = |what: &'static str| {
        let told = Arc::clone(&told);
        move |_peer| {
            told.lock().unwrap().push(what);
            std::future::ready(())
        }
    };
    let hub = App::new()
        .transport(network.clone())
        .on_connect(tell("first"))
        .on_connect(tell("second"))
        .on_disconnect(tell("gone"))
        .listen("hub:1")
        .await
        .unwrap();
    let other = App::new().transport(network).start().await.unwrap();
    other.connect("hub:1").await.unwrap();
    soon("a peer", hub.connected(1)).await.unwrap();
    other.shutdown().await;
    hub.shutdown().await;
    assert_eq!(*told.lock().unwrap(), ["first", "second", "gone"]);
}

#[tokio::test]
async fn an_error_can_be_cloned() {
    let mesh = App::new().start().await.unwrap();
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = free.local_addr().unwrap();
    drop(free);
    let error = mesh.connect(&addr.to_string()).await.unwrap_err();
    let same = error.clone();
    assert!(same.is_dial() && same.report().to_string() == error.report().to_string());
    assert!(std::error::Error::source(&same).is_some());
    assert!(TcpStream::connect(addr).await.is_err());
}
