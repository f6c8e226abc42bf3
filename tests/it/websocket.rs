//! Peers that come in WebSockets, through the service for upgrades.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::ConnectInfo;
use coalescent::connection::ConnectionInfo;
use coalescent::upgrade::{Upgrade, WebSocket};
use coalescent::{App, Mesh, Peer};
use futures_util::{SinkExt, StreamExt};
use support::{soon, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{WebSocketStream, client_async};

type Client = WebSocketStream<TcpStream>;

async fn serve(mesh: &Mesh, websocket: Option<WebSocket>) -> SocketAddr {
    let mut upgrade = Upgrade::new(mesh).remote_addr(|extensions| {
        let ConnectInfo(addr) = extensions.get::<ConnectInfo<SocketAddr>>()?;
        Some(*addr)
    });
    if let Some(websocket) = websocket {
        upgrade = upgrade.websocket(websocket);
    }
    serve_with(upgrade).await
}

async fn serve_with(upgrade: Upgrade) -> SocketAddr {
    let site = Router::new().route_service("/mesh", upgrade);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let service = site.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    addr
}

async fn connect(addr: SocketAddr) -> Result<Client, Error> {
    let socket = TcpStream::connect(addr).await.unwrap();
    let asked = client_async(format!("ws://{addr}/mesh"), socket);
    Ok(soon("an answer", asked).await?.0)
}

async fn peer_of(mesh: &Mesh) -> Peer {
    soon("a peer", mesh.connected(1)).await.unwrap();
    mesh.peers().list()[0].clone()
}

/// Carries the bytes of a stream in binary messages of a client, each at most `piece` long.
fn in_messages(client: Client, piece: usize) -> DuplexStream {
    let (ours, theirs) = duplex(64 * 1024);
    let (mut read, mut write) = tokio::io::split(theirs);
    let (mut sink, mut stream) = client.split();
    tokio::spawn(async move {
        let mut buffer = vec![0; piece];
        while let Ok(length @ 1..) = read.read(&mut buffer).await {
            let message = Message::binary(buffer[..length].to_vec());
            if sink.send(message).await.is_err() {
                break;
            }
        }
        let _ = sink.close().await;
    });
    tokio::spawn(async move {
        while let Some(Ok(message)) = stream.next().await {
            if message.is_binary() && write.write_all(&message.into_data()).await.is_err() {
                break;
            }
        }
    });
    ours
}

/// Returns the code with which the WebSocket is closed.
async fn closed(client: &mut Client) -> Option<CloseCode> {
    loop {
        match soon("its end", client.next()).await {
            Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return None,
        }
    }
}

async fn text(client: &mut Client) -> String {
    let message = soon("a message", client.next()).await.unwrap().unwrap();
    message.into_text().unwrap().as_str().to_owned()
}

#[tokio::test]
async fn a_mesh_joins_through_binary_messages() {
    for piece in [1, 7, 8 * 1024] {
        let mesh = App::new().start().await.unwrap();
        let mut heard = mesh.reader();
        let addr = serve(&mesh, Some(WebSocket::native())).await;
        let other = App::new().start().await.unwrap();
        let mut heard_there = other.reader();
        let io = in_messages(connect(addr).await.unwrap(), piece);
        let peer = soon("a peer", other.adopt(io, ConnectionInfo::outbound()))
            .await
            .unwrap();
        let here = peer_of(&mesh).await;
        assert_eq!(here.wire().name(), "native");
        assert!(here.addr().is_some());

        // Many, and one that takes several messages, both ways.
        let large = vec![b'x'; 100_000];
        for n in 0..100_u32 {
            peer.send_payload(n.to_be_bytes().to_vec()).await.unwrap();
            here.send_payload(n.to_be_bytes().to_vec()).await.unwrap();
        }
        for reader in [&mut heard, &mut heard_there] {
            for n in 0..100_u32 {
                let frame = soon("it is heard", reader.next_frame()).await.unwrap();
                assert_eq!(frame.payload(), &n.to_be_bytes()[..]);
            }
        }
        peer.send_payload(large.clone()).await.unwrap();
        here.send_payload(large.clone()).await.unwrap();
        for reader in [&mut heard, &mut heard_there] {
            let frame = soon("it is heard", reader.next_frame()).await.unwrap();
            assert_eq!(frame.payload(), &large[..]);
        }

        here.disconnect("enough");
        let why = soon("its end", peer.closed()).await;
        assert!(why.to_string().contains("enough"), "{why}");
        other.shutdown().await;
        mesh.shutdown().await;
    }
}

#[tokio::test]
async fn a_text_is_a_line() {
    let mesh = App::new().start().await.unwrap();
    let mut heard = mesh.reader();
    let addr = serve(&mesh, Some(WebSocket::lines())).await;
    let mut client = connect(addr).await.unwrap();
    for text in ["one", "two\n", "th\nree"] {
        client.send(Message::text(text)).await.unwrap();
    }
    for line in ["one", "two", "th ree"] {
        let frame = soon("it is heard", heard.next_frame()).await.unwrap();
        assert_eq!(frame.payload(), line.as_bytes());
    }
    let peer = peer_of(&mesh).await;
    assert_eq!(peer.wire().name(), "lines");
    let long = "é".repeat(50_000);
    for line in ["four", &long, "five"] {
        peer.send_payload(line.to_owned()).await.unwrap();
    }
    for line in ["four", &long, "five"] {
        assert_eq!(text(&mut client).await, line);
    }

    // A ping is answered, also while nothing else is said.
    client
        .send(Message::Ping("are you there".into()))
        .await
        .unwrap();
    let pong = soon("an answer", client.next()).await.unwrap().unwrap();
    assert_eq!(pong, Message::Pong("are you there".into()));

    // The close frames go both ways, whoever begins.
    client.close(None).await.unwrap();
    assert_eq!(closed(&mut client).await, None);
    soon("its end", peer.closed()).await;
    until("it is gone", || mesh.peers().is_empty()).await;
    let mut client = connect(addr).await.unwrap();
    let peer = peer_of(&mesh).await;
    peer.disconnect("enough");
    assert_eq!(closed(&mut client).await, Some(CloseCode::Normal));
    assert_eq!(closed(&mut client).await, None);
    soon("its end", peer.closed()).await;
}

#[tokio::test]
async fn what_breaks_the_rules_is_told_why() {
    let mesh = App::new().max_frame(1000).start().await.unwrap();
    let lines = serve(&mesh, Some(WebSocket::lines())).await;
    let native = serve(&mesh, Some(WebSocket::native())).await;
    for (addr, message, code) in [
        (lines, Message::text("x".repeat(1001)), CloseCode::Size),
        (lines, Message::text("x".repeat(60_000)), CloseCode::Size),
        (lines, Message::binary(&b"x"[..]), CloseCode::Unsupported),
        (native, Message::binary(vec![0; 1015]), CloseCode::Size),
        (native, Message::text("x"), CloseCode::Unsupported),
    ] {
        let mut client = connect(addr).await.unwrap();
        client.send(message).await.unwrap();
        assert_eq!(closed(&mut client).await, Some(code));
        until("it is gone", || mesh.peers().is_empty()).await;
    }
    // What is not read at all ends as well.
    let mut client = connect(lines).await.unwrap();
    let _ = client.send(Message::text("x".repeat(1_000_000))).await;
    closed(&mut client).await;
    // Bytes that are no WebSocket, or no mesh.
    let mut client = connect(lines).await.unwrap();
    client.get_mut().write_all(&[0xff; 64]).await.unwrap();
    assert_eq!(closed(&mut client).await, Some(CloseCode::Protocol));
    let mut client = connect(native).await.unwrap();
    client.send(Message::binary(vec![0xff; 64])).await.unwrap();
    closed(&mut client).await;
    until("they are gone", || mesh.peers().is_empty()).await;

    // The longest there may be.
    let mut heard = mesh.reader();
    let mut client = connect(lines).await.unwrap();
    client.send(Message::text("x".repeat(1000))).await.unwrap();
    let frame = soon("it is heard", heard.next_frame()).await.unwrap();
    assert_eq!(frame.payload().len(), 1000);
}

#[tokio::test]
async fn who_does_not_read_waits_and_loses_nothing() {
    let mesh = App::new().start().await.unwrap();
    let addr = serve(&mesh, Some(WebSocket::lines())).await;
    let mut client = connect(addr).await.unwrap();
    let peer = peer_of(&mesh).await;
    let line = |n: usize| format!("{n} {}", "x".repeat(10_000));
    let sending = tokio::spawn(async move {
        for n in 0..2000 {
            peer.send_payload(line(n)).await.unwrap();
        }
    });
    // Pings while the socket is full are answered too, and cost no message.
    for _ in 0..500 {
        client.send(Message::Ping("".into())).await.unwrap();
    }
    let mut next = 0;
    while next < 2000 {
        match soon("a message", client.next()).await.unwrap().unwrap() {
            Message::Text(text) => {
                assert_eq!(text.as_str(), line(next));
                next += 1;
            }
            other => assert!(other.is_pong(), "{other:?}"),
        }
    }
    soon("all is sent", sending).await.unwrap();
}

#[tokio::test]
async fn a_handshake_is_answered_only_where_it_is_right() {
    let status = |result: Result<Client, Error>| match result {
        Ok(_) => 101,
        Err(Error::Http(answer)) => answer.status().as_u16(),
        Err(error) => panic!("{error}"),
    };
    let mesh = App::new().start().await.unwrap();
    let addr = serve(&mesh, None).await;
    assert_eq!(status(connect(addr).await), 426);
    let addr = serve(&mesh, Some(WebSocket::lines())).await;
    assert_eq!(status(connect(addr).await), 101);
    mesh.shutdown().await;
    assert_eq!(status(connect(addr).await), 503);
}

#[tokio::test]
async fn only_pages_of_this_server_join_unless_others_are_allowed() {
    let mesh = App::new().start().await.unwrap();
    let upgrade = Upgrade::new(&mesh)
        .remote_addr(|_| Some(SocketAddr::from(([127, 0, 0, 1], 7))))
        .websocket(WebSocket::lines())
        .allow_origin(|origin| origin == "https://friend.example");
    let addr = serve_with(upgrade).await;
    for (origin, joins) in [
        (format!("http://{addr}"), true),
        (format!("https://{addr}"), true),
        ("https://friend.example".to_owned(), true),
        ("https://evil.example".to_owned(), false),
        ("null".to_owned(), false),
    ] {
        let mut request = format!("ws://{addr}/mesh").into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.insert("origin", origin.parse().unwrap());
        let socket = TcpStream::connect(addr).await.unwrap();
        let joined = soon("an answer", client_async(request, socket)).await;
        match joined {
            Ok(_) => assert!(joins, "{origin}"),
            Err(Error::Http(answer)) => assert!(!joins && answer.status() == 403, "{origin}"),
            Err(error) => panic!("{error}"),
        }
    }
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn binary_messages_carry_proofs_of_keys_and_text_does_not() {
    use coalescent::PeerId;
    use coalescent::identity::Identity;

    let app = || App::new().identity(Identity::generate());
    let key_of = |mesh: &Mesh| PeerId::Key(mesh.public_key().unwrap());
    let mesh = app().start().await.unwrap();
    let addr = serve(&mesh, Some(WebSocket::lines())).await;
    match connect(addr).await {
        Err(Error::Http(answer)) => assert_eq!(answer.status(), 403),
        other => panic!("{other:?}"),
    }

    // A tunnel: what comes to it goes through a WebSocket.
    let addr = serve(&mesh, Some(WebSocket::native())).await;
    let tunnel = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let entrance = tunnel.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = tunnel.accept().await.unwrap();
        let mut io = in_messages(connect(addr).await.unwrap(), 1024);
        let _ = tokio::io::copy_bidirectional(&mut socket, &mut io).await;
    });
    let other = app().start().await.unwrap();
    let peer = soon("a peer", other.connect(&entrance.to_string()))
        .await
        .unwrap();
    assert_eq!(*peer.id(), key_of(&mesh));
    let here = peer_of(&mesh).await;
    assert_eq!(*here.id(), key_of(&other));
}

#[cfg(feature = "axum")]
mod of_axum {
    use axum::extract::ws::WebSocketUpgrade;
    use axum::routing::get;

    use super::*;

    /// Serves a handler that makes peers of axum's own WebSockets.
    async fn serve(mesh: &Mesh, websocket: WebSocket) -> SocketAddr {
        let mesh = mesh.clone();
        let join = async move |ConnectInfo(addr): ConnectInfo<SocketAddr>,
                               upgrade: WebSocketUpgrade| {
            let upgrade = upgrade.max_message_size(websocket.max_message());
            upgrade.on_upgrade(async move |socket| {
                let io = websocket.io(socket);
                // Why it is no peer is known to who has come.
                let _ = mesh.accept_wire(io, addr, websocket.wire()).await;
            })
        };
        let site = Router::new().route("/mesh", get(join));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let service = site.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        addr
    }

    #[tokio::test]
    async fn sockets_of_axum_and_tungstenite_are_byte_streams() {
        for websocket in [WebSocket::native(), WebSocket::lines()] {
            let mesh = App::new().start().await.unwrap();
            let mut heard = mesh.reader();
            let addr = serve(&mesh, websocket.clone()).await;
            let other = App::new().wire(websocket.wire()).start().await.unwrap();
            let mut heard_there = other.reader();
            let io = websocket.io(connect(addr).await.unwrap());
            let peer = other.adopt(io, ConnectionInfo::outbound()).await.unwrap();
            let here = peer_of(&mesh).await;
            assert_eq!(here.wire().name(), websocket.wire().name());
            for (from, reader) in [(&peer, &mut heard), (&here, &mut heard_there)] {
                for size in [1, 100_000, 1024 * 1024, 1] {
                    from.send_payload("x".repeat(size)).await.unwrap();
                    let frame = soon("it is heard", reader.next_frame()).await.unwrap();
                    assert_eq!(frame.payload().len(), size);
                }
            }
            // The close frames go both ways, whoever begins.
            peer.disconnect("enough");
            soon("its end", here.closed()).await;
            let mut client = connect(addr).await.unwrap();
            if websocket.wire().name() == "lines" {
                peer_of(&mesh).await.disconnect("enough");
                assert_eq!(closed(&mut client).await, Some(CloseCode::Normal));
            }
            mesh.shutdown().await;
        }
    }

    #[tokio::test]
    async fn what_breaks_the_rules_of_axum_is_told_why() {
        let mesh = App::new().max_frame(1000).start().await.unwrap();
        let lines = serve(&mesh, WebSocket::lines().max_frame(1000)).await;
        let native = serve(&mesh, WebSocket::native().max_frame(1000)).await;
        for (addr, message, code) in [
            (lines, Message::text("x".repeat(1001)), CloseCode::Size),
            (lines, Message::binary(&b"x"[..]), CloseCode::Unsupported),
            (native, Message::binary(vec![0; 1015]), CloseCode::Size),
            (native, Message::text("x"), CloseCode::Unsupported),
        ] {
            let mut client = connect(addr).await.unwrap();
            client.send(message).await.unwrap();
            assert_eq!(closed(&mut client).await, Some(code));
        }
        let mut client = connect(lines).await.unwrap();
        client.get_mut().write_all(&[0xff; 64]).await.unwrap();
        assert_eq!(closed(&mut client).await, Some(CloseCode::Protocol));
        until("they are gone", || mesh.peers().is_empty()).await;
    }
}
