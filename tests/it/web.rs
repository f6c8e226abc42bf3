//! The web example: who may join over HTTP, and the chat page in a real browser, with peers that
//! are none.

use std::process::Command;

use coalescent::codec::Codec;
use coalescent::connection::ConnectionInfo;
use coalescent::{App, AppExt, Courier, MeshExt};
use serde_json::{Value, json};
use support::{Browser, Process, WEBSOCKET, Web, example};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[test]
fn only_what_asks_rightly_becomes_a_peer() {
    let web = Web::start("");
    let plain = "GET /mesh HTTP/1.1\nHost: {host}";
    let native = "GET /mesh HTTP/1.1\nHost: {host}\nConnection: upgrade\nUpgrade: coalescent/1";

    // No upgrade, or none that is known: what to ask for.
    let answer = web.ask(plain);
    assert!(answer.starts_with("HTTP/1.1 426"), "{answer}");
    assert!(
        answer.contains("upgrade: coalescent/1, websocket\r\n"),
        "{answer}"
    );
    assert!(
        answer.contains("content-security-policy: default-src 'none'"),
        "{answer}"
    );
    assert_eq!(
        web.status(&format!("{plain}\nConnection: upgrade\nUpgrade: h2c")),
        426
    );
    assert_eq!(web.status(&format!("{plain}\nUpgrade: coalescent/1")), 426);
    assert_eq!(
        web.status(&native.replace("coalescent/1", "coalescent/2")),
        426
    );
    assert_eq!(web.status(&native.replace("HTTP/1.1", "HTTP/1.0")), 426);
    // A WebSocket without its key, or of another version.
    assert_eq!(
        web.status(&WEBSOCKET[..WEBSOCKET.find("\nSec-WebSocket-Key").unwrap()]),
        400
    );
    assert_eq!(
        web.status(&WEBSOCKET.replace("Version: 13", "Version: 8")),
        400
    );
    assert_eq!(web.status(&native.replace("GET", "POST")), 405);

    // Pages of other origins, and servers of other names.
    for origin in [
        "http://evil.example",
        "null",
        "{host}",
        "http://{host}.evil.example",
        "ftp://{host}",
    ] {
        assert_eq!(
            web.status(&format!("{WEBSOCKET}\nOrigin: {origin}")),
            403,
            "{origin}"
        );
        assert_eq!(
            web.status(&format!("{native}\nOrigin: {origin}")),
            403,
            "{origin}"
        );
    }
    let rebound = WEBSOCKET.replace("{host}", "evil.example");
    assert_eq!(
        web.status(&format!("{rebound}\nOrigin: http://evil.example")),
        421
    );

    assert_eq!(web.status(WEBSOCKET), 101);
    assert_eq!(
        web.status(&format!("{WEBSOCKET}\nOrigin: http://{{host}}")),
        101
    );
    assert_eq!(
        web.status(&format!("{WEBSOCKET}\nOrigin: https://{{host}}")),
        101
    );
    let answer = web.ask(native);
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    assert!(answer.contains("upgrade: coalescent/1\r\n"), "{answer}");
}

/// What is in the log of the page, a line each.
const LOG: &str = "return Array.from(document.querySelectorAll('#log li'), (li) => li.textContent)";

fn contains(list: &Value, text: &str) -> Option<()> {
    list.as_array()?
        .iter()
        .any(|entry| entry.as_str().is_some_and(|entry| entry.contains(text)))
        .then_some(())
}

fn chat(handle: &str, text: &str) -> String {
    format!("chat {}", json!({ "handle": handle, "text": text }))
}

#[test]
fn the_page_talks_with_other_peers() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let web = Web::start("");
    let mut cat = Process::spawn(
        "meshcat",
        Command::new(example("meshcat")).args(["--seed", &web.mesh, "--codec", "json"]),
    );
    browser.open(&web.url);
    let connected = "return document.querySelector('#state').textContent";
    browser.wait(connected, |state| (state == "connected").then_some(()));

    // The page says what its parts are.
    assert_eq!(browser.label("#line"), "Say");
    assert_eq!(browser.role("#line"), "textbox");
    assert_eq!(browser.role("#log"), "log");
    assert_eq!(browser.role("#peers"), "list");

    // From the browser to a peer on TCP, twice the same.
    browser.clear("#handle");
    browser.type_into("#handle", "bea");
    for _ in 0..2 {
        browser.type_into("#line", "héllo\u{e007}");
        let body: Value = cat.wait_stdout("what the browser said", |line| {
            serde_json::from_str(line.strip_prefix("chat ")?).ok()
        });
        assert_eq!(body, json!({ "handle": "bea", "text": "héllo" }));
    }

    // Another program of the same chat, that comes later.
    let mut ann = Process::spawn(
        "chat",
        Command::new(example("chat")).args(["--name", "ann", "--seed", &web.mesh]),
    );
    ann.writeln("hello from a terminal");
    browser.wait(LOG, |log| contains(log, "ann: hello from a terminal"));
    browser.type_into("#line", "hello ann\u{e007}");
    ann.wait_stdout("what the browser said", |line| {
        line.contains("bea: hello ann").then_some(())
    });

    // And back.
    cat.writeln(&chat("cat", "meow"));
    browser.wait(LOG, |log| contains(log, "cat: meow"));

    // Who is there: a browser by the name it gave itself, and the peer on TCP.
    let peers = "return Array.from(document.querySelectorAll('#peers li'), (li) => li.textContent)";
    browser.wait(peers, |peers| contains(peers, "bea browser, inbound"));
    browser.wait(peers, |peers| contains(peers, "native, inbound"));

    // What others say is text, whatever it says, from a peer and from another page.
    let markup = r#"<img src="/x" onerror="window.harm = 1"><script>window.harm = 1</script>"#;
    cat.writeln(&chat(markup, markup));
    browser.wait(LOG, |log| contains(log, &format!(": {markup}")));
    let (first, second) = browser.open_tab(&web.url);
    browser.wait(connected, |state| (state == "connected").then_some(()));
    browser.type_into("#line", &format!("{markup} from a page\u{e007}"));
    browser.turn_to(&first);
    browser.wait(LOG, |log| contains(log, &format!("{markup} from a page")));
    for tab in [&second, &first] {
        browser.turn_to(tab);
        let markup = "return [document.images.length, document.querySelectorAll('#log script').length, window.harm ?? 0]";
        assert_eq!(browser.run(markup), json!([0, 0, 0]));
    }

    // Markup that got in could do nothing either.
    browser.run(r#"document.querySelector('#peers').innerHTML = '<img src="/x" onerror="window.harm = 1">'"#);
    let event = "document.querySelector('#state').setAttribute('onclick', 'window.harm = 2'); \
                 document.querySelector('#state').click(); return window.harm ?? 0";
    assert_eq!(browser.run(event), json!(0));

    // What is too large, or no text, costs the connection, and says why.
    for (what, codes) in [
        ("new Uint8Array(70000)", &[1009][..]),
        // Cut off in the middle: what the browser makes of it depends on how much it had sent.
        ("new Uint8Array(1000000)", &[1002, 1006, 1009]),
        ("'x'.repeat(3)", &[1003]),
    ] {
        let closed = browser.run_until_done(&format!(
            "const socket = new WebSocket('ws://' + location.host + '/mesh'); \
             socket.onopen = () => socket.send({what}); socket.onclose = (event) => done(event.code);"
        ));
        let known = codes.iter().any(|code| closed == json!(code));
        assert!(known, "{what}: {closed}, not one of {codes:?}");
    }

    // A page from elsewhere does not get in.
    browser.open("data:text/html,elsewhere");
    let closed = browser.run_until_done(&format!(
        "const socket = new WebSocket('ws://{}/mesh'); \
         socket.onopen = () => done('open'); socket.onclose = (event) => done(event.code);",
        web.authority()
    ));
    assert_eq!(closed, json!(1006));

    let answer = web.ask("GET /metrics HTTP/1.1\nHost: {host}");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        web.process
            .stderr()
            .all()
            .iter()
            .all(|line| !line.contains("panicked"))
    );
}

#[tokio::test]
async fn a_program_joins_over_http() {
    let web = Web::start("");
    let cat = Process::spawn(
        "meshcat",
        Command::new(example("meshcat")).args(["--seed", &web.mesh, "--codec", "json", "--events"]),
    );
    cat.wait_stderr("its peer", |line| {
        line.contains("peer_connected").then_some(())
    });

    let mut io = tokio::net::TcpStream::connect(web.authority())
        .await
        .unwrap();
    let head = format!(
        "GET /mesh HTTP/1.1\r\nHost: {}\r\nConnection: upgrade\r\nUpgrade: coalescent/1\r\n\r\n",
        web.authority()
    );
    io.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(io.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"));

    let mesh = App::new()
        .with(Courier::with_codec(Codec::json()))
        .start()
        .await
        .unwrap();
    let peer = mesh.adopt(io, ConnectionInfo::outbound()).await.unwrap();
    assert!(peer.agent().is_some());
    let said = json!({ "handle": "program", "text": "hello" });
    let sent = mesh.broadcast("chat", &said).await.unwrap();
    assert_eq!(sent.queued, 1);
    let said = tokio::task::spawn_blocking(move || {
        cat.wait_stdout("what the program said", |line| {
            line.strip_prefix("chat ").map(str::to_owned)
        })
    });
    let said: Value = serde_json::from_str(&said.await.unwrap()).unwrap();
    assert_eq!(said, json!({ "handle": "program", "text": "hello" }));

    // Who is there is told, and by no number that somebody else could claim.
    let mut asking = tokio::net::TcpStream::connect(web.authority())
        .await
        .unwrap();
    let head = format!(
        "GET /peers HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        web.authority()
    );
    asking.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    asking.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("native"), "{answer}");
    let number = mesh.peers().node_id().to_string();
    assert!(number.len() >= 32 && !answer.contains(&number), "{answer}");
    assert!(!answer.contains(&number[..8]), "{answer}");

    mesh.shutdown().await;
}
