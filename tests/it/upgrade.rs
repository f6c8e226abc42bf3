//! Peers that come over HTTP, through the service for upgrades.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::{Next, from_fn};
use coalescent::connection::ConnectionInfo;
use coalescent::upgrade::{PROTOCOL, Upgrade};
use coalescent::{App, Event, Mesh};
use support::{soon, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const ASKS: &str = "GET /mesh HTTP/1.1\r\nHost: here\r\nConnection: keep-alive, Upgrade\r\n\
                    Upgrade: coalescent/1\r\n\r\n";

/// What a request is given, and how many there are.
struct Guard(Arc<AtomicUsize>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Serves an upgrade to the mesh at `/mesh`.
async fn serve(upgrade: Upgrade, guards: Arc<AtomicUsize>) -> SocketAddr {
    let keep = move |mut request: Request, next: Next| {
        guards.fetch_add(1, Relaxed);
        let guard = Arc::new(Guard(Arc::clone(&guards)));
        request.extensions_mut().insert(guard);
        next.run(request)
    };
    let site = Router::new()
        .route_service("/mesh", upgrade)
        .layer(from_fn(keep));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let service = site.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    addr
}

fn with_addr(mesh: &Mesh) -> Upgrade {
    Upgrade::new(mesh).remote_addr(|extensions| {
        let ConnectInfo(addr) = extensions.get::<ConnectInfo<SocketAddr>>()?;
        Some(*addr)
    })
}

/// Sends a request, and returns the connection and the head of the answer.
async fn ask(addr: SocketAddr, request: &str) -> (TcpStream, String) {
    let mut socket = TcpStream::connect(addr).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon("an answer", socket.read_u8()).await.unwrap());
    }
    (socket, String::from_utf8(head).unwrap())
}

async fn status(addr: SocketAddr, request: &str) -> String {
    ask(addr, request).await.1[9..12].to_owned()
}

#[tokio::test]
async fn a_connection_that_asks_for_it_becomes_a_peer() {
    let mesh = App::new().max_inbound(1).start().await.unwrap();
    let mut heard = mesh.reader();
    let guards: Arc<AtomicUsize> = Arc::default();
    let addr = serve(with_addr(&mesh), Arc::clone(&guards)).await;

    let (socket, head) = ask(addr, ASKS).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(head.contains(&format!("upgrade: {PROTOCOL}\r\n")), "{head}");
    let other = App::new().start().await.unwrap();
    let here = socket.local_addr().unwrap();
    let peer = other
        .adopt(socket, ConnectionInfo::outbound())
        .await
        .unwrap();
    soon("a peer", mesh.connected(1)).await.unwrap();
    assert_eq!(mesh.peers().list()[0].addr(), Some(here));
    peer.send_payload("hello").await.unwrap();
    let frame = soon("it is heard", heard.next_frame()).await.unwrap();
    assert_eq!(frame.payload(), b"hello");
    drop(frame);

    // The mesh's limits hold, and what the request was given is kept with the peer.
    assert_eq!(status(addr, ASKS).await, "503");
    until("only one is kept", || guards.load(Relaxed) == 1).await;
    let theirs = mesh.peers().list()[0].clone();
    peer.disconnect("enough");
    soon("its end", theirs.closed()).await;
    until("none is kept", || guards.load(Relaxed) == 0).await;
    while status(addr, ASKS).await != "101" {
        tokio::task::yield_now().await;
    }

    // A service does not keep its mesh.
    mesh.shutdown().await;
    assert_eq!(status(addr, ASKS).await, "503");
}

/// Nobody waits for what becomes of an upgraded connection, so it is reported as of one that the
/// mesh's own listener has accepted.
#[tokio::test]
async fn a_stranger_that_is_upgraded_and_is_no_peer_is_reported() {
    let mesh = App::new().start().await.unwrap();
    let mut events = mesh.events();
    let addr = serve(with_addr(&mesh), Arc::default()).await;
    let (mut socket, head) = ask(addr, ASKS).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    socket.write_all(&[0xff; 64]).await.unwrap();
    let error = loop {
        match soon("an event", events.next()).await.unwrap() {
            Event::Error { peer, error } => {
                assert!(peer.is_none());
                break error;
            }
            Event::PeerConnected { peer } => panic!("{} is a peer", peer.id()),
            _ => {}
        }
    };
    let here = socket.local_addr().unwrap().to_string();
    assert!(error.is_handshake(), "{}", error.report());
    assert!(
        error.report().to_string().contains(&here),
        "{}",
        error.report()
    );
}

#[tokio::test]
async fn other_requests_are_told_what_is_wrong() {
    let mesh = App::new().start().await.unwrap();
    let addr = serve(with_addr(&mesh), Arc::default()).await;
    for request in [
        "GET /mesh HTTP/1.1\r\nHost: here\r\n\r\n".to_owned(),
        ASKS.replace("coalescent/1", "coalescent/2"),
        ASKS.replace("keep-alive, Upgrade", "keep-alive"),
        ASKS.replace("HTTP/1.1", "HTTP/1.0"),
        ASKS.replace("GET", "POST"),
    ] {
        let (_, head) = ask(addr, &request).await;
        assert!(head.contains(" 426 "), "{head}");
        assert!(head.contains("upgrade: coalescent/1\r\n"), "{head}");
    }

    // A server that does not tell who is there, and a peer in plaintext from far away.
    let addr = serve(Upgrade::new(&mesh), Arc::default()).await;
    assert_eq!(status(addr, ASKS).await, "500");
    let far = Upgrade::new(&mesh).remote_addr(|_| Some(SocketAddr::from(([192, 0, 2, 1], 7))));
    let addr = serve(far, Arc::default()).await;
    assert_eq!(status(addr, ASKS).await, "403");
    assert!(mesh.peers().is_empty());

    // What does not shake hands afterwards is no peer.
    let addr = serve(with_addr(&mesh), Arc::default()).await;
    let (mut socket, _) = ask(addr, ASKS).await;
    socket.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    soon("its end", socket.read_to_end(&mut rest))
        .await
        .unwrap();
    assert!(mesh.peers().is_empty());
}

#[tokio::test]
async fn a_request_with_a_body_is_refused() {
    let mesh = App::new().start().await.unwrap();
    let addr = serve(with_addr(&mesh), Arc::default()).await;
    for body in [
        "Content-Length: 5\r\n\r\nHELLO",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nHELLO\r\n0\r\n\r\n",
    ] {
        let asks = ASKS.strip_suffix("\r\n").unwrap();
        let (_, head) = ask(addr, &format!("{asks}{body}")).await;
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    }
    assert!(mesh.peers().is_empty());
}
