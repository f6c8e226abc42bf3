//! Peers of the Node original without a courier, and ours on the `raw` wire: bytes both ways.

use std::fmt::Write;

use coalescent::{App, AppExt, Tattletale, Wire};
use support::mesh::{addr, bytes, connected};
use support::{NpmPeer, npm_ready};
use tokio::io::AsyncWriteExt;

/// Every byte there is, in an order that is no text in any encoding.
fn binary() -> Vec<u8> {
    (0..=255_u8).map(|byte| byte.wrapping_mul(167)).collect()
}

/// Only UTF-8, since the original damages what else its own application writes.
const TEXT: &str = "beep\r\n\n\0boop ÄÖÜ €\n";

fn hex(text: &str) -> String {
    text.bytes().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_both_ways_where_they_dial_us() {
    if !npm_ready() {
        return;
    }
    let mesh = App::new().wire(Wire::raw()).listen("127.0.0.1:0").await;
    let mut mesh = mesh.expect("it listens");
    let (mut events, mut reader) = (mesh.events(), mesh.reader());
    let mut npm = NpmPeer::start(&["--seed", &addr(&mesh)]);
    let peer = connected(&mut events).await;
    assert_eq!(peer.direction(), coalescent::Direction::Inbound);
    npm.wait("peerConnected");

    npm.command(&format!("writehex {}", hex(TEXT)));
    assert_eq!(bytes(&mut reader, TEXT.len()).await, TEXT.as_bytes());

    mesh.write_all(&binary()).await.expect("it is written");
    npm.wait_bytes(&binary());
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_both_ways_where_we_dial_them() {
    if !npm_ready() {
        return;
    }
    let mut npm = NpmPeer::start(&[]);
    let app = App::new().wire(Wire::raw()).seeds([npm.addr()]);
    let mut mesh = app.start().await.expect("it starts");
    let (mut events, mut reader) = (mesh.events(), mesh.reader());
    connected(&mut events).await;
    npm.wait("peerConnected");

    npm.command(&format!("writehex {}", hex(TEXT)));
    assert_eq!(bytes(&mut reader, TEXT.len()).await, TEXT.as_bytes());

    mesh.write_all(&binary()).await.expect("it is written");
    npm.wait_bytes(&binary());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_peer_writes_another_reads_through_ours() {
    if !npm_ready() {
        return;
    }
    let app = App::new().wire(Wire::raw()).with(Tattletale::new());
    let mesh = app.listen("127.0.0.1:0").await.expect("it listens");
    let mut events = mesh.events();
    let mut first = NpmPeer::start(&["--seed", &addr(&mesh)]);
    connected(&mut events).await;
    let last = NpmPeer::start(&["--seed", &addr(&mesh)]);
    connected(&mut events).await;
    first.wait("peerConnected");
    last.wait("peerConnected");

    first.command(&format!("writehex {}", hex(TEXT)));

    last.wait_bytes(TEXT.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_relay_leaves_our_bytes_as_they_are() {
    if !npm_ready() {
        return;
    }
    let ours = async || App::new().wire(Wire::raw()).listen("127.0.0.1:0").await;
    let mut first = ours().await.expect("it listens");
    let last = ours().await.expect("it listens");
    let mut reader = last.reader();
    // What is larger than a read of theirs too, and no UTF-8 wherever they cut it.
    let sent = binary().repeat(4096);
    let (a, b) = (addr(&first), addr(&last));
    let npm = NpmPeer::start(&[
        "--use",
        "tattletale",
        "--seed",
        &a,
        "--seed",
        &b,
        "--no-read",
    ]);
    npm.wait("peerConnected");
    npm.wait("peerConnected");
    connected(&mut first.events()).await;
    connected(&mut last.events()).await;

    let write = async {
        first.write_all(&sent).await.expect("it is written");
        first.flush().await.expect("it is written");
    };
    let ((), received) = tokio::join!(write, bytes(&mut reader, sent.len()));

    assert!(received == sent, "the bytes have changed on the way");
}
