//! Bridges over a real NATS server. Without one in the path, these tests fail, and say so.

use std::collections::{BTreeMap, HashMap};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Auth, ConnectOptions, HeaderMap};
use coalescent::transport::Memory;
use coalescent_bridge::{Bridge, Heard, NONCE_HEADER, Nats, SUBSCRIBED};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::watch;

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

    async fn nats(&self) -> Nats {
        let nats = Nats::connect(ConnectOptions::new(), self.url(), SUBJECT).await;
        let nats = nats.unwrap();
        // So that it is subscribed by now.
        nats.client().flush().await.unwrap();
        nats
    }

    async fn bridge(&self) -> Bridge<Nats> {
        Bridge::new(self.nats().await)
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

/// Waits until all `texts` have come at a subscriber, copies of one left out by its id.
async fn heard(subscriber: &mut async_nats::Subscriber, texts: &[String]) {
    let mut ids = HashMap::new();
    let all = async {
        while ids.len() < texts.len() {
            let message = subscriber.next().await.unwrap();
            let id = message.headers.unwrap().get(NONCE_HEADER).unwrap().clone();
            let known = ids.insert(id.to_string(), message.payload.clone());
            assert!(known.is_none_or(|known| known == message.payload));
        }
    };
    let in_time = tokio::time::timeout(LIMIT, all).await.is_ok();
    assert!(in_time, "only {} of {}", ids.len(), texts.len());
    let mut counts = BTreeMap::new();
    ids.values().for_each(|payload| count(&mut counts, payload));
    assert_eq!(counts, once(texts));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_meshes_are_joined() {
    let server = Server::start().await;
    let (client, mut subscriber) = server.subscriber().await;
    let (network, other) = (Memory::new(), Memory::new());
    // Two bridges in one mesh, one in the other, and a plain node in each.
    let mut nodes = [
        Node::start(&network, "a:1", &[], server.bridge().await).await,
        Node::start(&network, "a:2", &["a:1"], server.bridge().await).await,
        Node::start(&network, "a:3", &["a:1", "a:2"], None::<Bridge<Nats>>).await,
        Node::start(&other, "b:1", &[], server.bridge().await).await,
        Node::start(&other, "b:2", &["b:1"], None::<Bridge<Nats>>).await,
    ];
    for (node, peers) in nodes.iter().zip([3, 3, 2, 2, 1]) {
        node.mesh.connected(peers).await.unwrap();
    }
    let mut texts = Vec::new();
    for round in 0..100 {
        for (number, node) in nodes.iter().enumerate() {
            texts.push(format!("{round} of {number}"));
            node.say(texts.last().unwrap()).await;
        }
    }
    for (number, node) in nodes.iter_mut().enumerate() {
        let own = format!(" of {number}");
        let others = once(texts.iter().filter(|text| !text.ends_with(&own)));
        assert_eq!(node.heard(others.len()).await, others, "node {number}");
    }
    heard(&mut subscriber, &texts).await;

    // Without an id, and twice with one of another kind.
    let plain = client.publish(SUBJECT, "from outside".into());
    plain.await.unwrap();
    for _ in 0..2 {
        let mut headers = HeaderMap::new();
        headers.insert(NONCE_HEADER, "order 7");
        let named = client.publish_with_headers(SUBJECT, headers, "named".into());
        named.await.unwrap();
    }
    for node in &mut nodes {
        assert_eq!(node.heard(2).await, once(["from outside", "named"]));
    }
    // What comes last has been the length of the way behind all copies there could be.
    nodes[4].say("the end").await;
    for node in &mut nodes[..4] {
        assert_eq!(node.heard(1).await, once(["the end"]));
    }
    for node in &mut nodes {
        assert_eq!(node.rest(), BTreeMap::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_while_the_server_is_away_crosses_later_or_is_counted() {
    const MORE_THAN_WAIT: usize = 5000;
    let mut server = Server::start().await;
    // The far bridge must be back before, as NATS keeps nothing.
    let (gate, may_connect) = watch::channel(true);
    let options = ConnectOptions::with_auth_callback(move |_| {
        let mut may_connect = may_connect.clone();
        async move {
            let _ = may_connect.wait_for(|may| *may).await;
            Ok(Auth::new())
        }
    });
    let nats = Nats::connect(options, server.url(), SUBJECT).await.unwrap();
    let client = nats.client().clone();
    let bridge = Bridge::new(nats);
    let stats = bridge.stats();
    let a = Node::start(&Memory::new(), "a:1", &[], bridge).await;
    let mut b = Node::start(&Memory::new(), "b:1", &[], server.bridge().await).await;
    a.mesh.connected(1).await.unwrap();
    b.mesh.connected(1).await.unwrap();
    a.say("before").await;
    assert_eq!(b.heard(1).await, once(["before"]));
    gate.send(false).unwrap();
    server.stop();
    until("the client notices", || {
        client.connection_state() != State::Connected
    })
    .await;
    for number in 0..MORE_THAN_WAIT {
        a.say(format!("while it is away {number}")).await;
    }
    let all = u64::try_from(MORE_THAN_WAIT).unwrap() + 1;
    // One is held.
    until("all are taken or dropped", || {
        stats.said() + stats.lost() == all - 1
    })
    .await;
    let said = usize::try_from(stats.said()).unwrap() + 1;
    assert!(stats.lost() > 0);

    server.run().await;
    let (other, _subscriber) = server.subscriber().await;
    let mut probes = 0;
    while b.rest().is_empty() {
        let probe = format!("probe {probes}");
        other.publish(SUBJECT, probe.into()).await.unwrap();
        probes += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    gate.send(true).unwrap();
    let mut heard = BTreeMap::new();
    while heard.len() < said - 1 {
        let next = b.heard(1).await.into_keys().next().unwrap();
        if next.starts_with("while") {
            *heard.entry(next).or_insert(0) += 1;
        }
    }
    assert!(heard.values().all(|&times| times == 1));
    // There is room again.
    a.say("after").await;
    let after = async { while !b.heard(1).await.contains_key("after") {} };
    after.await;
    assert_eq!(stats.lost() + stats.said(), all + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_for_the_server_costs_nothing_else() {
    let server = Server::start().await;
    let bridge = server.bridge().await;
    let stats = bridge.stats();
    let (_client, mut subscriber) = server.subscriber().await;
    let a = Node::start(&Memory::new(), "a:1", &[], bridge).await;
    a.mesh.connected(1).await.unwrap();
    // The server takes a MiB together with the headers.
    a.say("x".repeat(1024 * 1024)).await;
    a.say("fine").await;
    heard(&mut subscriber, &["fine".to_owned()]).await;
    assert_eq!(stats.lost(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_leaves_writes_all_it_has() {
    let server = Server::start().await;
    let (_client, mut subscriber) = server.subscriber().await;
    let nats = server.nats().await;
    let written = nats.client().statistics();
    let a = Node::start(&Memory::new(), "a:1", &[], Bridge::new(nats)).await;
    a.mesh.connected(1).await.unwrap();
    let texts: Vec<_> = (0..1000).map(|number| number.to_string()).collect();
    for text in &texts {
        a.say(text).await;
    }
    a.mesh.shutdown().await;
    assert_eq!(written.out_messages.load(Relaxed), 1000);
    heard(&mut subscriber, &texts).await;
}

#[tokio::test]
async fn closing_writes_what_was_said() {
    let server = Server::start().await;
    let mut nats = server.nats().await;
    let written = nats.client().statistics();
    for nonce in 0..100 {
        nats.feed((nonce, "said".into())).await.unwrap();
    }
    nats.close().await.unwrap();
    assert_eq!(written.out_messages.load(Relaxed), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_does_not_wait_for_a_server_that_is_away() {
    let mut server = Server::start().await;
    let bridge = server.bridge().await;
    let a = Node::start(&Memory::new(), "a:1", &[], bridge).await;
    a.mesh.connected(1).await.unwrap();
    server.stop();
    a.say("too late").await;
    let begun = std::time::Instant::now();
    a.mesh.shutdown().await;
    // Half of what a shutdown may take, 10 s.
    assert!(begun.elapsed() < Duration::from_secs(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_client_drops_is_told() {
    let server = Server::start().await;
    let mut nats = server.nats().await;
    let (client, _subscriber) = server.subscriber().await;
    for _ in 0..SUBSCRIBED + 10 {
        client.publish(SUBJECT, "flood".into()).await.unwrap();
    }
    let arrived = nats.client().statistics();
    until("all arrive", || {
        arrived.in_messages.load(Relaxed) >= SUBSCRIBED as u64 + 10
    })
    .await;
    let (mut messages, mut missed) = (0, 0);
    while missed == 0 {
        match nats.next().await.unwrap() {
            Heard::Message(..) => messages += 1,
            Heard::Missed(some) => missed += some,
        }
        if messages >= SUBSCRIBED {
            // It wakes whoever waits.
            client.publish(SUBJECT, "one more".into()).await.unwrap();
        }
    }
    assert!(missed > 0);
}

#[tokio::test]
async fn wants_one_subject() {
    let server = Server::start().await;
    for subject in ["prices.*", "prices.>"] {
        let refused = Nats::connect(ConnectOptions::new(), server.url(), subject).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("name one subject"), "{refused}");
    }
}

/// `cargo test --release -- --ignored --nocapture throughput`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn throughput() {
    const MESSAGES: usize = 10_000;
    let server = Server::start().await;
    let bridges = [server.bridge().await, server.bridge().await];
    let stats = bridges.each_ref().map(Bridge::stats);
    let [a, b] = bridges;
    let a = Node::start(&Memory::new(), "a:1", &[], a).await;
    let mut b = Node::start(&Memory::new(), "b:1", &[], b).await;
    a.mesh.connected(1).await.unwrap();
    b.mesh.connected(1).await.unwrap();
    let begun = std::time::Instant::now();
    let say = async {
        for _ in 0..MESSAGES {
            a.say("x".repeat(1024)).await;
        }
    };
    tokio::join!(say, b.heard(MESSAGES));
    println!("{MESSAGES} x 1 KiB in {:?}: {stats:?}", begun.elapsed());
}
