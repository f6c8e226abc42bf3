//! Bridges over a real NATS server. Without one in the path, these tests fail, and say so.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use async_nats::ConnectOptions;
use coalescent::transport::Memory;
use coalescent_bridge::{Bridge, Nats};
use futures_util::StreamExt;

use crate::support::{LIMIT, Node, count, once, until};

const SUBJECT: &str = "prices.gold";

/// A server of this test alone, on a port of its own.
struct Server {
    port: u16,
    child: Option<Child>,
}

impl Server {
    async fn start() -> Self {
        // Some other process may take the port before the server does.
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut server = Self { port, child: None };
        server.run().await;
        server
    }

    async fn run(&mut self) {
        // Debian puts it where not every user looks for programs.
        let name = Some("/usr/sbin/nats-server").filter(|file| Path::new(file).exists());
        let child = Command::new(name.unwrap_or("nats-server"))
            .args(["--addr", "127.0.0.1", "--port", &self.port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server is in the path (Debian's package nats-server)");
        self.child = Some(child);
        let port = self.port;
        until("the server listens", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        })
        .await;
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    async fn bridge(&self, group: &str) -> Bridge<Nats> {
        let nats = Nats::connect(ConnectOptions::new(), self.url(), SUBJECT).await;
        Bridge::new(nats.unwrap()).group(group)
    }

    /// Subscribes as somebody who is no bridge.
    async fn subscriber(&self) -> (async_nats::Client, async_nats::Subscriber) {
        let client = async_nats::connect(self.url()).await.unwrap();
        let subscriber = client.subscribe("prices.>").await.unwrap();
        client.flush().await.unwrap();
        (client, subscriber)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Waits for so many messages at a subscriber, and returns how often each came.
async fn heard(subscriber: &mut async_nats::Subscriber, number: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let all = async {
        for _ in 0..number {
            count(&mut counts, &subscriber.next().await.unwrap().payload);
        }
    };
    let in_time = tokio::time::timeout(LIMIT, all).await.is_ok();
    assert!(in_time, "fewer than {number}: {counts:?}");
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn two_meshes_are_joined() {
    let server = Server::start().await;
    let (client, mut subscriber) = server.subscriber().await;
    let (network, other) = (Memory::new(), Memory::new());
    // Two bridges in one mesh, one in the other, and a plain node in each.
    let mut nodes = [
        Node::start(&network, "a:1", &[], server.bridge("a").await).await,
        Node::start(&network, "a:2", &["a:1"], server.bridge("a").await).await,
        Node::start(&network, "a:3", &["a:1", "a:2"], None::<Bridge<Nats>>).await,
        Node::start(&other, "b:1", &[], server.bridge("b").await).await,
        Node::start(&other, "b:2", &["b:1"], None::<Bridge<Nats>>).await,
    ];
    for (node, peers) in nodes.iter().zip([3, 3, 2, 2, 1]) {
        node.mesh.connected(peers).await.unwrap();
    }
    // Until they know of each other, two bridges may both say a message.
    tokio::time::sleep(Duration::from_secs(4)).await;

    let mut texts = Vec::new();
    for round in 0..100 {
        for (number, node) in nodes.iter().enumerate() {
            let text = format!("{round} of {number}");
            node.say(&*text).await;
            texts.push(text);
        }
    }
    for (number, node) in nodes.iter_mut().enumerate() {
        let own = format!(" of {number}");
        let others = once(texts.iter().filter(|text| !text.ends_with(&own)));
        assert_eq!(node.heard(others.len()).await, others, "node {number}");
    }
    assert_eq!(heard(&mut subscriber, texts.len()).await, once(&texts));

    client
        .publish(SUBJECT, "from outside".into())
        .await
        .unwrap();
    for node in &mut nodes {
        assert_eq!(node.heard(1).await, once(["from outside"]));
    }
    // What comes last has been the length of the way behind all copies there could be.
    nodes[4].say("the end").await;
    for node in &mut nodes[..4] {
        assert_eq!(node.heard(1).await, once(["the end"]));
    }
    assert_eq!(
        heard(&mut subscriber, 2).await,
        once(["from outside", "the end"])
    );
    for node in &mut nodes {
        assert_eq!(node.rest(), BTreeMap::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_may_restart() {
    let mut server = Server::start().await;
    let bridges = [server.bridge("a").await, server.bridge("b").await];
    let [a, b] = &bridges;
    let a = Node::start(&Memory::new(), "a:1", &[], a.clone()).await;
    let mut b = Node::start(&Memory::new(), "b:1", &[], b.clone()).await;
    a.mesh.connected(1).await.unwrap();
    b.mesh.connected(1).await.unwrap();
    a.say("before").await;
    assert_eq!(b.heard(1).await, once(["before"]));
    server.stop();
    for number in 0..1000 {
        a.say(format!("while it is away {number}")).await;
    }
    server.run().await;
    a.say("after").await;
    let mut all = once((0..1000).map(|number| format!("while it is away {number}")));
    all.insert("after".to_owned(), 1);
    assert_eq!(b.heard(1001).await, all);
    assert_eq!(bridges[0].stats().lost(), 0);
    assert_eq!(b.rest(), BTreeMap::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_for_the_server_costs_nothing_else() {
    let server = Server::start().await;
    let bridge = server.bridge("a").await;
    let (_client, mut subscriber) = server.subscriber().await;
    let a = Node::start(&Memory::new(), "a:1", &[], bridge.clone()).await;
    a.mesh.connected(1).await.unwrap();
    // The server takes a MiB together with the headers.
    a.say("x".repeat(1024 * 1024)).await;
    a.say("fine").await;
    assert_eq!(heard(&mut subscriber, 1).await, once(["fine"]));
    assert_eq!(bridge.stats().refused, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_may_come_last() {
    let mut server = Server::start().await;
    server.stop();
    let options = ConnectOptions::new().retry_on_initial_connect();
    let nats = Nats::connect(options, server.url(), SUBJECT).await.unwrap();
    let a = Node::start(&Memory::new(), "a:1", &[], Bridge::new(nats)).await;
    a.mesh.connected(1).await.unwrap();
    a.say("patient").await;
    server.run().await;
    let (client, mut subscriber) = server.subscriber().await;
    a.say("at last").await;
    // The first one may have been said before this subscriber was there.
    let said = async { while subscriber.next().await.unwrap().payload != "at last" {} };
    tokio::time::timeout(LIMIT, said).await.unwrap();
    drop(client);
}

#[tokio::test]
async fn wants_one_subject() {
    let server = Server::start().await;
    for subject in ["prices.*", "prices.>"] {
        let refused = Nats::connect(ConnectOptions::new(), server.url(), subject).await;
        assert!(
            refused
                .unwrap_err()
                .to_string()
                .contains("name one subject")
        );
    }
}
