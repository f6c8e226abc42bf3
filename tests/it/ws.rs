//! Peers at `ws://` and `wss://` addresses: dialled at web servers, and listening without one.

use std::net::SocketAddr;

use axum::Router;
use coalescent::upgrade::Upgrade;
use coalescent::websocket::{WebSocket, Ws};
use coalescent::{App, Event, Mesh};
use futures_util::{SinkExt, StreamExt};
use support::mesh::{connected, event};
use support::{soon, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// Serves WebSockets to the mesh at `/mesh`.
async fn serve(mesh: &Mesh, at: SocketAddr) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let upgrade = Upgrade::new(mesh)
        .remote_addr(|_| Some(SocketAddr::from(([127, 0, 0, 1], 7))))
        .websocket(WebSocket::native());
    let site = Router::new().route_service("/mesh", upgrade);
    let listener = TcpListener::bind(at).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, site).await.unwrap() });
    (addr, server)
}

/// Where a mesh listens.
fn at(mesh: &Mesh) -> SocketAddr {
    mesh.local_addresses()[0].socket_addr().expect("an address")
}

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn app() -> App {
    App::new().transport(Ws::new())
}

/// Says a few things both ways, of all sizes.
async fn talk(one: &Mesh, other: &Mesh) {
    soon("a peer", one.connected(1)).await.unwrap();
    for (from, to) in [(one, other), (other, one)] {
        let mut reader = to.reader();
        for size in [1, 1000, 100_000, 1024 * 1024] {
            assert_eq!(
                from.broadcast_payload("x".repeat(size))
                    .await
                    .unwrap()
                    .queued,
                1
            );
            let frame = soon("it is heard", reader.next_frame()).await.unwrap();
            assert_eq!(frame.payload().len(), size);
        }
    }
}

#[tokio::test]
async fn a_seed_at_a_web_server_is_dialled_again_and_again() {
    let mesh = App::new().start().await.unwrap();
    let (addr, server) = serve(&mesh, any_port()).await;
    let other = app()
        .seeds([format!("ws://{addr}/mesh")])
        .start()
        .await
        .unwrap();
    let mut events = other.events();
    let peer = connected(&mut events).await;
    assert_eq!(peer.addr(), Some(addr));
    talk(&mesh, &other).await;

    server.abort();
    mesh.shutdown().await;
    soon("its end", peer.closed()).await;
    let mesh = App::new().start().await.unwrap();
    until("the port is free", || {
        std::net::TcpListener::bind(addr).is_ok()
    })
    .await;
    let (_, _server) = serve(&mesh, addr).await;
    connected(&mut events).await;
    talk(&mesh, &other).await;
}

#[tokio::test]
async fn a_mesh_listens_without_a_web_server() {
    let mesh = app().listen("ws://127.0.0.1:0/mesh").await.unwrap();
    let mut events = mesh.events();
    let address = mesh.local_addresses()[0].clone();
    assert_eq!((address.scheme(), address.path()), ("ws", "/mesh"));
    let other = app().start().await.unwrap();
    let peer = other.connect(&address.to_string()).await.unwrap();
    assert!(peer.addr().is_some());
    talk(&mesh, &other).await;

    // It knows itself, and does not wait for who says nothing, or leaves.
    let silent = TcpStream::connect(at(&mesh)).await.unwrap();
    drop(TcpStream::connect(at(&mesh)).await.unwrap());
    let error = mesh.connect(&address.to_string()).await.unwrap_err();
    assert!(error.is_itself(), "{error}");
    drop(silent);
    other.shutdown().await;
    mesh.shutdown().await;
    while let Some(event) = soon("an event", events.next()).await {
        assert!(!matches!(event, Event::Error { .. }), "{event:?}");
    }

    // A web server does more.
    let error = app().listen("wss://127.0.0.1:0/mesh").await.unwrap_err();
    assert!(
        error.is_listen() && error.report().to_string().contains("behind it"),
        "{error}"
    );
}

#[tokio::test]
async fn only_pages_that_may_do_join_where_it_listens() {
    let ws = Ws::new().allow_origin(|origin| origin == "https://friend.example");
    let mesh = App::new()
        .transport(ws)
        .listen("ws://127.0.0.1:0")
        .await
        .unwrap();
    let addr = at(&mesh);
    let origins = [
        (&["https://friend.example"][..], 101),
        (&[], 101),
        (&["https://evil.example"], 403),
        (&["null"], 403),
        (&["https://friend.example", "https://evil.example"], 403),
    ];
    for (origins, expected) in origins {
        let mut request = format!("ws://{addr}/").into_client_request().unwrap();
        for origin in origins {
            request
                .headers_mut()
                .append("origin", origin.parse().unwrap());
        }
        // The same for a page that names the server itself, since it serves no pages.
        let socket = TcpStream::connect(addr).await.unwrap();
        let status = match soon("an answer", client_async(request, socket)).await {
            Ok((mut socket, answer)) => {
                socket.close(None).await.unwrap();
                while let Some(Ok(_)) = socket.next().await {}
                answer.status().as_u16()
            }
            Err(Error::Http(answer)) => answer.status().as_u16(),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(status, expected, "{origins:?}");
    }
    let other = app().start().await.unwrap();
    let error = other
        .connect(&format!("ws://{addr}/other"))
        .await
        .unwrap_err();
    assert!(
        error.report().to_string().contains("404 Not Found"),
        "{error}"
    );
}

#[tokio::test]
async fn lines_travel_in_texts() {
    let app = || {
        App::new()
            .wire(coalescent::Wire::lines())
            .transport(Ws::with(WebSocket::lines()))
    };
    let mesh = app().listen("ws://127.0.0.1:0").await.unwrap();
    let address = mesh.local_addresses()[0].to_string();
    let other = app().seeds([address.clone()]).start().await.unwrap();
    soon("a peer", other.connected(1)).await.unwrap();
    talk(&mesh, &other).await;
    // A page without any client.
    let socket = TcpStream::connect(at(&mesh)).await.unwrap();
    let (mut page, _) = client_async(&address, socket).await.unwrap();
    soon("a peer", mesh.connected(2)).await.unwrap();
    let mut reader = mesh.reader();
    page.send("hello".into()).await.unwrap();
    let frame = soon("it is heard", reader.next_frame()).await.unwrap();
    assert_eq!(frame.payload(), b"hello");
    // The address of the dialling end tells that it is the node itself.
    let error = mesh.connect(&address).await.unwrap_err();
    assert!(error.is_itself(), "{error}");
}

/// Answers each connection with the same bytes.
async fn answers(bytes: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            let _ = socket.read(&mut head).await;
            let _ = socket.write_all(bytes.as_bytes()).await;
        }
    });
    addr
}

#[tokio::test]
async fn what_is_no_websocket_server_is_one_clear_error() {
    let mesh = App::new().start().await.unwrap();
    let (site, _server) = serve(&mesh, any_port()).await;
    let native = App::new().listen("127.0.0.1:0").await.unwrap();
    let native = at(&native);
    let other = app().start().await.unwrap();
    let of = "request for a WebSocket";
    for (addr, expected) in [
        (site, format!("{of} with 404 Not Found")),
        (native, "no WebSocket server is there".to_owned()),
        (answers("").await, "hung up".to_owned()),
        (
            answers("hello\r\n\r\n").await,
            "no WebSocket server is there".to_owned(),
        ),
        (
            answers("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await,
            format!("{of} with 200 OK"),
        ),
        (
            answers("HTTP/1.1 407 Proxy Authentication Required\r\n\r\nwho are you\nmore").await,
            format!("{of} with 407 Proxy Authentication Required: who are you"),
        ),
        (
            answers("HTTP/1.1 301 Moved Permanently\r\nLocation: https://elsewhere\r\n\r\n").await,
            format!("{of} with 301 Moved Permanently, and refers to https://elsewhere"),
        ),
        (
            answers("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n").await,
            "no WebSocket server is there".to_owned(),
        ),
    ] {
        let error = other
            .connect(&format!("ws://{addr}/"))
            .await
            .unwrap_err()
            .report()
            .to_string();
        assert!(error.contains(&expected), "{error}");
        assert!(error.contains(&format!("ws://{addr}/")), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    // As an event of a seed, which is dialled again.
    let addr = answers("HTTP/1.1 502 Bad Gateway\r\n\r\n").await;
    let seeking = app()
        .seeds([format!("ws://{addr}/")])
        .start()
        .await
        .unwrap();
    let mut events = seeking.events();
    for _ in 0..2 {
        let failed = event("an error", &mut events, |event| match event {
            Event::Error { error, .. } => Some(error.report().to_string()),
            _ => None,
        });
        assert!(failed.await.contains("502 Bad Gateway"));
    }
    let error = App::new()
        .seeds(["ws://127.0.0.1/"])
        .start()
        .await
        .unwrap_err();
    assert!(error.report().to_string().contains("websocket"), "{error}");
}

#[cfg(feature = "tls")]
mod keys {
    use coalescent::identity::Identity;

    use super::*;

    #[tokio::test]
    async fn keys_are_proven_inside_of_a_websocket() {
        let (mine, theirs) = (Identity::generate(), Identity::generate());
        let mesh = app()
            .identity(theirs.clone())
            .listen("ws://127.0.0.1:0")
            .await
            .unwrap();
        let addr = at(&mesh);
        let other = app().identity(mine.clone()).start().await.unwrap();
        let wrong = Identity::generate().id();
        let error = other
            .connect(&format!("ws://{wrong}@{addr}"))
            .await
            .unwrap_err();
        assert!(error.is_handshake(), "{error}");
        let address = format!("ws://{}@{addr}", theirs.id());
        let peer = other.connect(&address).await.unwrap();
        assert_eq!(peer.id().to_string(), theirs.id().to_string());
        soon("a peer", mesh.connected(1)).await.unwrap();
        let here = mesh.peers().list()[0].clone();
        assert_eq!(here.id().to_string(), mine.id().to_string());
        talk(&mesh, &other).await;
        // Without an identity nobody can prove it.
        let error = app()
            .start()
            .await
            .unwrap()
            .connect(&address)
            .await
            .unwrap_err();
        assert!(error.is_config(), "{error}");
    }
}

#[cfg(feature = "wss")]
mod wss {
    use std::sync::Arc;

    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ServerConfig, crypto};
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// A server with a certificate in front of a mesh, as a web server is; returns its port and the
    /// certificate.
    async fn front(mesh: SocketAddr, name: &str) -> (u16, String) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed([name.to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let config =
            ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![cert.der().clone()], key)
                .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut socket = acceptor.accept(socket).await?;
                    let mut behind = TcpStream::connect(mesh).await?;
                    tokio::io::copy_bidirectional(&mut socket, &mut behind).await
                });
            }
        });
        (port, cert.pem())
    }

    #[tokio::test]
    async fn a_certificate_proves_the_server_and_nothing_else() {
        let mesh = app().listen("ws://127.0.0.1:0/mesh").await.unwrap();
        let (port, pem) = front(at(&mesh), "localhost").await;
        let trusting = |pem: &str| App::new().transport(Ws::new().roots(pem).unwrap());
        let address = format!("wss://localhost:{port}/mesh");
        let other = trusting(&pem)
            .seeds([address.clone()])
            .start()
            .await
            .unwrap();
        soon("a peer", other.connected(1)).await.unwrap();
        talk(&mesh, &other).await;

        // Another name, another certificate, those of the machine, and no TLS at all.
        let (port_of_other, _) = front(at(&mesh), "example.org").await;
        let error_of = async |app: App, address: &str| {
            let error = app
                .start()
                .await
                .unwrap()
                .connect(address)
                .await
                .unwrap_err();
            assert_eq!(error.report().to_string().lines().count(), 1, "{error}");
            error.report().to_string()
        };
        let refused = "the server's certificate is not accepted";
        let by_ip = format!("wss://127.0.0.1:{port}/mesh");
        let of_other = format!("wss://localhost:{port_of_other}/mesh");
        for (app, address) in [(trusting(&pem), &by_ip), (trusting(&pem), &of_other)] {
            let error = error_of(app, address).await;
            assert!(error.contains(refused), "{error}");
        }
        let error = error_of(app(), &address).await;
        let no_roots = "this machine has no root certificates";
        assert!(
            error.contains(refused) || error.contains(no_roots),
            "{error}"
        );
        let plain = format!("wss://{}/mesh", at(&mesh));
        let error = error_of(trusting(&pem), &plain).await;
        assert!(error.contains("no TLS with the server"), "{error}");
        assert!(Ws::new().roots("no certificate").is_err());
    }

    #[tokio::test]
    async fn keys_are_proven_whatever_the_certificate() {
        use coalescent::identity::Identity;
        let (mine, theirs) = (Identity::generate(), Identity::generate());
        let app = |identity: &Identity| App::new().identity(identity.clone());
        let mesh = app(&theirs)
            .transport(Ws::new())
            .listen("ws://127.0.0.1:0")
            .await
            .unwrap();
        let (port, pem) = front(at(&mesh), "localhost").await;
        let ws = Ws::new().roots(&pem).unwrap();
        let other = app(&mine).transport(ws).start().await.unwrap();
        let id = theirs.id();
        let peer = other
            .connect(&format!("wss://{id}@localhost:{port}"))
            .await
            .unwrap();
        assert_eq!(peer.id().to_string(), id.to_string());
        soon("a peer", mesh.connected(1)).await.unwrap();
        assert_eq!(
            mesh.peers().list()[0].id().to_string(),
            mine.id().to_string()
        );
        talk(&mesh, &other).await;
    }
}
