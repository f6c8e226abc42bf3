//! Peers over all kinds of sockets: the examples of transports of one's own, and a mesh of a page,
//! WebSockets, TCP and a Node peer.

use std::process::Command;

use serde_json::{Value, json};
use support::{Browser, NpmPeer, Process, Web, example, npm_ready};

/// What is in the log of the page, a line each.
const LOG: &str = "return Array.from(document.querySelectorAll('#log li'), (li) => li.textContent)";

fn chat(handle: &str, text: &str) -> Value {
    json!({ "handle": handle, "text": text })
}

fn cat(seed: &str) -> Process {
    let mut command = Command::new(example("meshcat"));
    let process = Process::spawn(
        "meshcat",
        command.args(["--codec", "json", "--events", "--seed", seed]),
    );
    process.wait_stderr("its peer", |line| {
        line.contains("peer_connected").then_some(())
    });
    process
}

#[test]
fn a_page_a_websocket_a_socket_and_a_node_peer_are_one_mesh() {
    let Some(browser) = Browser::start() else {
        return;
    };
    if !npm_ready() {
        return;
    }
    let web = Web::start("--lines 127.0.0.1:0");
    let lines = web.process.wait_stderr("the address for lines", |line| {
        let (_, addr) = line.split_once("listening addr=")?;
        (addr != web.mesh).then(|| addr.to_owned())
    });
    let mut over_ws = cat(&format!("ws://{}/mesh", web.authority()));
    let mut over_tcp = cat(&web.mesh);
    let mut npm = NpmPeer::start(&["--use", "courier", "--seed", &lines]);
    npm.wait("peerConnected");
    browser.open(&web.url);
    browser.wait(
        "return document.querySelector('#state').textContent",
        |state| (state == "connected").then_some(()),
    );
    browser.clear("#handle");
    browser.type_into("#handle", "page");

    // Each says the same twice, and then something else.
    let names = ["npm", "page", "tcp", "ws"];
    let texts = ["hello", "hello", "bye"];
    for text in texts {
        browser.type_into("#line", &format!("{text}\u{e007}"));
        over_ws.writeln(&format!("chat {}", chat("ws", text)));
        over_tcp.writeln(&format!("chat {}", chat("tcp", text)));
        npm.command(&format!("broadcast chat {}", chat("npm", text)));
    }
    let expected = |own: &str| {
        let others = names.iter().filter(|name| **name != own);
        let mut all: Vec<_> = others
            .flat_map(|name| texts.map(|text| format!("{name}: {text}")))
            .collect();
        all.sort();
        all
    };
    let shown = |said: &Value| {
        let text = |key: &str| said[key].as_str().expect("text").to_owned();
        format!("{}: {}", text("handle"), text("text"))
    };
    for (name, cat) in [("ws", &over_ws), ("tcp", &over_tcp)] {
        let heard = cat
            .stdout()
            .wait_until(support::DEADLINE, |lines| lines.len() >= 9);
        heard.unwrap_or_else(|missing| panic!("{name}: {missing}"));
        let mut heard: Vec<_> = cat.stdout().all();
        for line in &mut heard {
            let said = serde_json::from_str(line.strip_prefix("chat ").expect("a chat")).unwrap();
            *line = shown(&said);
        }
        heard.sort();
        assert_eq!(heard, expected(name));
    }
    let mut heard: Vec<_> = (0..9).map(|_| shown(&npm.wait_message("chat"))).collect();
    heard.sort();
    assert_eq!(heard, expected("npm"));
    let mut log = browser.wait(LOG, |log| {
        let log: Vec<String> = serde_json::from_value(log.clone()).ok()?;
        (log.len() >= 12).then_some(log)
    });
    log.retain(|line| !line.starts_with("page: "));
    log.sort();
    assert_eq!(log, expected("page"));
    npm.assert_alive();
}

#[test]
fn the_short_page_is_a_peer() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let mut command = Command::new(example("browser"));
    let site = Process::spawn("browser", command.arg("127.0.0.1:0"));
    let url = site.wait_stdout("its address", |line| Some(line.to_owned()));
    browser.open(&url);
    let state = "return document.querySelector('#state').textContent";
    browser.wait(state, |state| {
        (state == "connected to one of 2 nodes").then_some(())
    });
    let mut cat = cat(&format!("{}/mesh", url.replace("http", "ws")));
    browser.type_into("#line", "<b>héllo</b>\u{e007}");
    cat.wait_stdout("what the page said", |line| {
        (line == r#"chat "<b>héllo</b>""#).then_some(())
    });
    cat.writeln(r#"chat "<i>hello</i>""#);
    browser.wait(LOG, |log| {
        (*log == json!(["<b>héllo</b>", "<i>hello</i>"])).then_some(())
    });
}

#[test]
fn a_page_joins_where_meshcat_listens_if_its_origin_may() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let mut command = Command::new(example("browser"));
    let site = Process::spawn("browser", command.arg("127.0.0.1:0"));
    let url = site.wait_stdout("its address", |line| Some(line.to_owned()));
    browser.open(&url);
    for (origin, joins) in [("https://elsewhere.example", false), (&*url, true)] {
        let mut command = Command::new(example("meshcat"));
        let options = [
            "--listen",
            "ws://127.0.0.1:0",
            "--codec",
            "json",
            "--events",
        ];
        let command = command.args(options).args(["--origin", origin]);
        let cat = Process::spawn("meshcat", command);
        let line = cat.wait_stderr_event("listening");
        let address = line.text("addr");
        let joined = browser.run_until_done(&format!(
            "import('/coalescent.js').then(({{ connect }}) => {{
                 const peer = connect('{address}', {{ onclose: (reason) => done(reason) }});
                 peer.opened().then(() => {{ peer.broadcast('chat', 'hello'); done(true); }});
             }});"
        ));
        if joins {
            assert_eq!(joined, true);
            cat.wait_stdout("what the page said", |line| {
                (line == r#"chat "hello""#).then_some(())
            });
        } else {
            assert_eq!(joined, "the connection ended (1006)");
        }
    }
}

#[test]
fn unix_sockets_carry_a_mesh() {
    let dir = tempfile::tempdir().expect("a directory");
    let address = format!("unix:{}/mesh.sock", dir.path().display());
    let start = |verb: &str| {
        let mut command = Command::new(example("unix_socket"));
        Process::spawn(verb, command.args([verb, &address]))
    };
    let hear = |process: &Process, text: &str| {
        process.wait_stdout(text, |line| (line == text).then_some(()));
    };
    let mut seed = start("seed");
    for text in ["hello", "again"] {
        // The second finds the file that the first one, which was killed, has left.
        let mut listening = start("listen");
        listening.writeln(text);
        hear(&seed, text);
        seed.writeln(text);
        hear(&listening, text);
    }
}

mod socks5 {
    use std::net::SocketAddr;

    use coalescent::App;
    use coalescent::identity::Identity;
    use support::soon;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// The name that only the proxy knows.
    const NAME: &str = "mesh.invalid";

    /// A SOCKS5 proxy that leads the name to `there`, or refuses it.
    async fn proxy(there: Option<SocketAddr>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, there));
            }
        });
        addr
    }

    async fn serve(mut socket: TcpStream, there: Option<SocketAddr>) -> std::io::Result<()> {
        // Version 5, and one way to say who asks: not at all.
        let mut greeting = [0; 3];
        socket.read_exact(&mut greeting).await?;
        assert_eq!(greeting, [5, 1, 0]);
        socket.write_all(&[5, 0]).await?;
        // Connect to a name.
        let mut request = [0; 5 + NAME.len() + 2];
        socket.read_exact(&mut request).await?;
        assert_eq!(request[..5], [5, 1, 0, 3, NAME.len() as u8]);
        assert_eq!(&request[5..5 + NAME.len()], NAME.as_bytes());
        let status = if there.is_some() { 0 } else { 2 };
        socket
            .write_all(&[5, status, 0, 1, 0, 0, 0, 0, 0, 0])
            .await?;
        if let Some(there) = there {
            let mut there = TcpStream::connect(there).await?;
            tokio::io::copy_bidirectional(&mut socket, &mut there).await?;
        }
        Ok(())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_proxy_leads_to_a_peer() {
        let identity = Identity::generate();
        let id = identity.id();
        let mesh = App::new()
            .identity(identity)
            .listen("127.0.0.1:0")
            .await
            .unwrap();
        let proxy = proxy(Some(mesh.local_addrs()[0])).await;
        let seed = format!("{id}@{NAME}:1337");
        let mut command = Command::new(example("socks5"));
        let process = Process::spawn("socks5", command.args([&proxy.to_string(), &seed]));
        soon("a peer", mesh.connected(1)).await.unwrap();
        tokio::task::block_in_place(|| {
            process.wait_stdout("the peer", |line| {
                (line == format!("connected to {id}")).then_some(())
            });
        });
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_proxy_that_refuses_is_one_error_each_time() {
        let proxy = proxy(None).await;
        let mut command = Command::new(example("socks5"));
        let seed = format!("{NAME}:1337");
        let process = Process::spawn("socks5", command.args([&proxy.to_string(), &seed]));
        tokio::task::block_in_place(|| {
            for _ in 0..2 {
                let line = process.wait_stdout("an error", |line| Some(line.to_owned()));
                let expected = format!(
                    "cannot connect to {seed}: the proxy at {proxy}: Connection not allowed by ruleset"
                );
                assert_eq!(line, expected);
            }
        });
    }
}
