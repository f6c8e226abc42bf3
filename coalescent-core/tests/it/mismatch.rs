//! A node with an identity and one without, in all directions: both say what is wrong, and what to
//! do. So does a node that an HTTP client or server is met by.

use std::time::Duration;

use coalescent_core::identity::Identity;
use coalescent_core::{App, Config, Mesh, Wire};
use support::mesh::{addr, disconnected, error as error_of};
use support::soon;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const TO_PLAIN: &str = "the peer speaks TLS, and this node does not: give this app an identity, or \
                        start the peer without one";
const TO_TLS: &str = "the peer does not speak TLS, and this node does: give the peer an identity, \
                      or start this node without one";
const HTTP_CLIENT: &str = "this is an HTTP client, and no peer";
const HTTP_SERVER: &str = "an HTTP server answers there, and no peer";

fn plain() -> App {
    App::new()
}

fn tls() -> App {
    App::new().identity(Identity::generate())
}

async fn listening(app: App) -> Mesh {
    app.listen("127.0.0.1:0").await.expect("a free port")
}

/// Returns why no connection was made to `there`.
async fn refused(app: App, there: &str) -> String {
    let mesh = app.start().await.unwrap();
    let error = soon("an answer", mesh.connect(there)).await.unwrap_err();
    assert!(error.is_handshake(), "{error}");
    error.report().to_string()
}

fn check(text: &str, expected: &str) {
    assert!(text.contains(expected), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    // Nothing is said twice.
    assert_eq!(text.matches("the handshake failed").count(), 1, "{text}");
}

#[tokio::test]
async fn with_and_without_an_identity_both_say_what_is_wrong() {
    for (here, there, to_dialler, to_listener) in [
        (tls(), plain(), TO_TLS, TO_PLAIN),
        (plain(), tls(), TO_PLAIN, TO_TLS),
    ] {
        let listening = listening(there).await;
        let mut events = listening.events();
        let there = addr(&listening);
        let dialler = refused(here, &there).await;
        check(&dialler, to_dialler);
        assert!(dialler.starts_with(&there), "it says where: {dialler}");
        check(&error_of(&mut events).await, to_listener);
        assert!(listening.peers().is_empty());
    }
}

#[tokio::test]
async fn a_node_on_lines_says_that_the_dialler_speaks_tls() {
    let listening = listening(plain().wire(Wire::lines())).await;
    let mut events = listening.events();
    let mut reader = listening.reader();
    let dialler = refused(tls(), &addr(&listening)).await;
    check(&dialler, "broke in the TLS handshake");
    assert!(dialler.contains("with an identity"), "{dialler}");
    let (_, reason) = disconnected(&mut events).await;
    assert!(reason.to_string().contains(TO_PLAIN), "{reason}");
    listening.shutdown().await;
    assert!(reader.next_frame().await.is_none(), "its bytes are no line");
}

#[tokio::test]
async fn a_dialler_on_lines_says_that_the_node_speaks_tls() {
    let listening = listening(tls()).await;
    let mut heard = listening.events();
    let here = plain().wire(Wire::lines()).start().await.unwrap();
    let (mut events, mut reader) = (here.events(), here.reader());
    // Without a handshake it counts as connected at once.
    let peer = here.connect(&addr(&listening)).await.unwrap();
    peer.send_payload("hello").await.unwrap();
    let (_, reason) = disconnected(&mut events).await;
    assert!(reason.to_string().contains(TO_PLAIN), "{reason}");
    check(&error_of(&mut heard).await, "the peer does not speak TLS");
    here.shutdown().await;
    assert!(reader.next_frame().await.is_none(), "an alert is no line");
}

#[tokio::test]
async fn an_http_client_is_called_so() {
    for app in [plain(), tls()] {
        let mesh = listening(app).await;
        let mut events = mesh.events();
        let mut client = TcpStream::connect(addr(&mesh)).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n";
        client.write_all(request).await.unwrap();
        check(&error_of(&mut events).await, HTTP_CLIENT);
        let mut rest = Vec::new();
        let _ = soon("the end", client.read_to_end(&mut rest)).await;
    }
}

#[tokio::test]
async fn an_http_server_is_called_so() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = server.local_addr().unwrap().to_string();
    let serving = tokio::spawn(async move {
        loop {
            let (mut socket, _) = server.accept().await.unwrap();
            let mut request = [0; 16];
            socket.read_exact(&mut request).await.unwrap();
            let answer = b"HTTP/1.1 400 Bad Request\r\n\r\n";
            socket.write_all(answer).await.unwrap();
            // The client closes first, so that nothing is lost.
            let _ = socket.read_to_end(&mut Vec::new()).await;
        }
    });
    for app in [plain(), tls()] {
        check(&refused(app, &there).await, HTTP_SERVER);
    }
    serving.abort();
}

#[tokio::test]
async fn a_peer_that_hangs_up_may_want_something_else() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = server.local_addr().unwrap().to_string();
    let hanging_up = tokio::spawn(async move {
        let (mut socket, _) = server.accept().await.unwrap();
        // All of the HELLO, so that the end is a clean one.
        let length = socket.read_u32().await.unwrap();
        let mut hello = vec![0; length as usize];
        socket.read_exact(&mut hello).await.unwrap();
    });
    let text = refused(plain(), &there).await;
    assert!(
        text.contains("if it speaks TLS, give this app an identity"),
        "{text}"
    );
    assert!(
        text.ends_with("unexpected end of file"),
        "the cause: {text}"
    );
    hanging_up.await.unwrap();
}

#[tokio::test]
async fn a_node_that_says_nothing_may_not_speak_tls() {
    let impatient = || {
        let mut config = Config::default();
        config.handshake_timeout = Duration::from_millis(200);
        App::from_config(config).identity(Identity::generate())
    };
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = silent.local_addr().unwrap().to_string();
    let here = impatient().start().await.unwrap();
    let error = soon("the timeout", here.connect(&there)).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert!(error.to_string().contains("does not speak TLS"), "{error}");

    let listening = listening(impatient()).await;
    let mut events = listening.events();
    let _silent = TcpStream::connect(addr(&listening)).await.unwrap();
    let told = error_of(&mut events).await;
    assert!(told.contains("does not speak TLS"), "{told}");
}
