//! Connections that another server accepted: a hyper server's upgraded connections become peers.

use std::convert::Infallible;
use std::time::Duration;

use coalescent::connection::ConnectionInfo;
use coalescent::event::DisconnectReason;
use coalescent::{App, Event, Mesh, Peer, Wire};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HOST, UPGRADE};
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;

/// How long a condition may take before a test fails. Only failures take this long.
const DEADLINE: Duration = Duration::from_secs(30);

/// How much fits into a connection in memory: less than what the tests send.
const PIPE: usize = 4 * 1024;

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// Serves HTTP over `io`, with one path, that makes a peer of the connection.
fn serve(io: DuplexStream, mesh: Mesh, wire: Wire) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (mesh, wire) = (mesh.clone(), wire.clone());
        async move {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let upgraded = upgrade.await.expect("an upgrade");
                let socket = ConnectionInfo::inbound().wire(wire);
                mesh.adopt(TokioIo::new(upgraded), socket)
                    .await
                    .expect("a peer");
            });
            let mut response = Response::new(Empty::<Bytes>::new());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert(CONNECTION, "upgrade".parse().expect("a value"));
            headers.insert(UPGRADE, "coalescent/1".parse().expect("a value"));
            Ok::<_, Infallible>(response)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    tokio::spawn(connection);
}

/// Asks for an upgrade over `io`, and returns what is left of the connection.
async fn upgrade(io: DuplexStream) -> Upgraded {
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(io));
    let (mut sender, connection) = handshake.await.expect("a connection");
    tokio::spawn(connection.with_upgrades());
    let request = Request::get("/mesh")
        .header(HOST, "localhost")
        .header(CONNECTION, "upgrade")
        .header(UPGRADE, "coalescent/1")
        .body(Empty::<Bytes>::new())
        .expect("a request");
    let response = sender.send_request(request).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    hyper::upgrade::on(response).await.expect("an upgrade")
}

/// Connects two nodes through HTTP; returns the server as the client's peer.
async fn connect(server: &Mesh, client: &Mesh, wire: Wire) -> Peer {
    let (here, there) = tokio::io::duplex(PIPE);
    serve(there, server.clone(), wire.clone());
    let io = TokioIo::new(upgrade(here).await);
    let socket = ConnectionInfo::outbound().wire(wire);
    client.adopt(io, socket).await.expect("a peer")
}

/// Says something to the one peer there is.
async fn say(mesh: &Mesh, payload: impl Into<Bytes>) {
    assert_eq!(mesh.broadcast_payload(payload).await.unwrap().queued, 1);
}

async fn node() -> Mesh {
    App::new().start().await.expect("a node")
}

#[tokio::test]
async fn an_upgraded_connection_is_a_peer() {
    let (server, client) = (node().await, node().await);
    let (mut at_server, mut at_client) = (server.reader(), client.reader());
    let mut events = server.events();
    let peer = connect(&server, &client, Wire::native()).await;
    assert_eq!(peer.agent(), server.peers().config().agent.as_str().into());
    let Some(Event::PeerConnected { peer: of_client }) = soon("a peer", events.next()).await else {
        panic!("the first event");
    };

    // Both ways, small and large, in order.
    let large = vec![b'x'; 10 * PIPE];
    peer.send_payload("beep").await.expect("room");
    say(&client, large.clone()).await;
    of_client.send_payload(large.clone()).await.expect("room");
    say(&server, "boop").await;
    for expected in [b"beep", &large[..]] {
        let frame = soon("a frame", at_server.next_frame())
            .await
            .expect("it runs");
        assert_eq!(frame.payload(), expected);
        assert_eq!(*frame.peer(), of_client);
    }
    for expected in [&large[..], b"boop"] {
        let frame = soon("a frame", at_client.next_frame())
            .await
            .expect("it runs");
        assert_eq!(frame.payload(), expected);
    }

    // What is queued is written before the end, and the goodbye arrives.
    say(&client, large.clone()).await;
    client.shutdown().await;
    let frame = soon("the last frame", at_server.next_frame()).await;
    assert_eq!(frame.expect("it runs").payload(), &large[..]);
    let reason = soon("the end", of_client.closed()).await;
    assert!(matches!(reason, DisconnectReason::Bye(_)), "{reason}");
    let stats = server.stats();
    assert_eq!((stats.dropped, stats.received), (0, 3));
}

#[tokio::test]
async fn an_upgraded_connection_has_the_wire_that_it_is_given() {
    let (server, client) = (node().await, node().await);
    let mut at_server = server.reader();
    let peer = connect(&server, &client, Wire::lines()).await;
    assert_eq!(peer.wire(), &Wire::lines());
    assert_eq!(peer.agent(), None);
    say(&client, "a line").await;
    let frame = soon("a frame", at_server.next_frame()).await;
    assert_eq!(frame.expect("it runs").payload(), b"a line");
}

#[tokio::test]
async fn a_connection_whose_end_says_nothing_is_no_peer() {
    let server = node().await;
    let (here, there) = tokio::io::duplex(PIPE);
    let silent = tokio::spawn({
        let server = server.clone();
        async move { server.adopt(there, ConnectionInfo::inbound()).await }
    });
    drop(here);
    let error = soon("an answer", silent)
        .await
        .expect("no panic")
        .unwrap_err();
    assert!(error.is_handshake(), "{error}");
    assert!(server.peers().is_empty());

    server.shutdown().await;
    let (_here, there) = tokio::io::duplex(PIPE);
    let late = server
        .adopt(there, ConnectionInfo::inbound())
        .await
        .unwrap_err();
    assert!(late.is_closed(), "{late}");
}
