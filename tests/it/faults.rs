//! Whole nodes through a proxy that stalls, cuts, resets and slows connections: what was accepted
//! arrives or is reported, an honest peer of the same node notices nothing, and seeds come back.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use coalescent::{App, Config, DisconnectReason, Event, Mesh, Stats};
use support::proxy::{Fault, Faults, Proxy};
use tokio::time::{sleep, timeout};

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), future)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"))
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    soon(what, async {
        while !condition() {
            sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// Backoffs that a test can wait for.
fn quick(config: &mut Config) {
    config.min_peers = 1;
    config.backoff = Duration::from_millis(10);
    config.backoff_max = Duration::from_millis(100);
    config.connect_timeout = Duration::from_secs(2);
    config.handshake_timeout = Duration::from_secs(2);
}

/// One that asks often whether its peers are there.
fn watchful(config: &mut Config) {
    config.ping_every = Duration::from_millis(200);
    config.answer_within = Duration::from_millis(200);
}

/// A node that keeps what it hears, and why its peers left.
struct Node {
    mesh: Mesh,
    heard: Arc<Mutex<Vec<Bytes>>>,
    ends: Arc<Mutex<Vec<DisconnectReason>>>,
    lost: Arc<Mutex<u64>>,
}

impl Node {
    async fn start(app: App) -> Self {
        let (ends, lost, heard) = (Arc::default(), Arc::default(), Arc::default());
        let node = Self {
            mesh: app.configure(quick).start().await.expect("a node"),
            heard,
            ends,
            lost,
        };
        let mut reader = node.mesh.reader();
        let heard = Arc::clone(&node.heard);
        tokio::spawn(async move {
            while let Some(frame) = reader.next_frame().await {
                heard.lock().unwrap().push(frame.into_payload());
            }
        });
        let (ends, lost) = (Arc::clone(&node.ends), Arc::clone(&node.lost));
        node.mesh.on_event(move |event| match event {
            Event::PeerDisconnected { reason, .. } => ends.lock().unwrap().push(reason),
            Event::Dropped { frames, .. } => *lost.lock().unwrap() += frames,
            Event::Missed(missed) => panic!("missed {missed} events"),
            _ => {}
        });
        node
    }

    async fn listening() -> (Self, SocketAddr) {
        let node = Self::start(App::new().configure(|config| config.min_peers = 0)).await;
        node.mesh.listen("127.0.0.1:0").await.expect("a free port");
        let addr = node.mesh.local_addrs()[0];
        (node, addr)
    }

    fn heard(&self) -> Vec<Bytes> {
        self.heard.lock().unwrap().clone()
    }

    async fn hears(&self, what: &str, messages: &[Bytes]) {
        until(what, || self.heard.lock().unwrap().len() >= messages.len()).await;
        assert_eq!(self.heard(), messages, "{what}");
    }

    async fn peers(&self, count: usize) {
        until("so many peers", || self.mesh.peers().len() == count).await;
    }

    async fn broadcast(&self, messages: &[Bytes]) -> (usize, usize) {
        let (mut queued, mut dropped) = (0, 0);
        for message in messages {
            let sent = soon("room", self.mesh.broadcast_payload(message.clone()))
                .await
                .unwrap();
            queued += sent.queued;
            dropped += sent.dropped;
        }
        (queued, dropped)
    }
}

/// A hub, a node that has it as a seed through a proxy, and an honest one connected to the hub
/// without.
struct Three {
    hub: Node,
    proxy: Proxy,
    far: Node,
    honest: Node,
}

impl Three {
    async fn start(app: App) -> Self {
        let (hub, addr) = Node::listening().await;
        let proxy = Proxy::start(addr).await;
        let far = Node::start(app.seeds([proxy.addr()])).await;
        let honest = Node::start(App::new()).await;
        honest
            .mesh
            .connect(&addr.to_string())
            .await
            .expect("the hub");
        hub.peers(2).await;
        far.peers(1).await;
        Self {
            hub,
            proxy,
            far,
            honest,
        }
    }

    /// What is said from now on arrives at both, and the honest one never noticed anything.
    async fn recovered(&self, said: &[Bytes]) {
        self.hub.peers(2).await;
        self.far.peers(1).await;
        let before = self.far.heard().len();
        let messages = messages("after it", 20, 100);
        assert_eq!(self.hub.broadcast(&messages).await, (40, 0));
        let far = &self.far;
        until("what is said after it", || far.heard().len() >= before + 20).await;
        assert_eq!(self.far.heard()[before..], messages);
        let all = [said, &messages].concat();
        self.honest.hears("everything", &all).await;
        assert!(
            self.honest.ends.lock().unwrap().is_empty(),
            "the honest peer was disconnected"
        );
    }
}

fn messages(name: &str, count: usize, length: usize) -> Vec<Bytes> {
    (0..count)
        .map(|number| Bytes::from(format!("{name} {number:06} {:.<length$}", "")))
        .collect()
}

/// Messages in order, none left out.
fn is_prefix(heard: &[Bytes], said: &[Bytes]) -> bool {
    said.starts_with(heard)
}

#[tokio::test]
async fn slow_lines_lose_nothing_either_way() {
    let delay = Fault {
        delay: Duration::from_millis(50),
        ..Fault::default()
    };
    let bytes = Fault {
        chunk: 1,
        ..Fault::default()
    };
    let narrow = Fault {
        bytes_per_second: 200_000,
        chunk: 4096,
        ..Fault::default()
    };
    let uneven = Fault {
        chunk: 7,
        delay: Duration::from_millis(3),
        ..Fault::default()
    };
    for fault in [delay, bytes, narrow, uneven] {
        let three = Three::start(App::new()).await;
        three.proxy.set(Faults::both(fault));
        let (down, up) = (messages("down", 100, 300), messages("up", 100, 300));
        let (hub, far) = tokio::join!(three.hub.broadcast(&down), three.far.broadcast(&up));
        assert_eq!((hub, far), ((200, 0), (100, 0)), "{fault:?}");
        three.honest.hears("without a proxy", &down).await;
        three.far.hears("down a slow line", &down).await;
        three.hub.hears("up a slow line", &up).await;
        three.recovered(&down).await;
        assert_eq!(three.proxy.accepted(), 1, "{fault:?} cost a connection");
    }
}

#[tokio::test]
async fn a_stall_holds_up_its_own_peer_alone() {
    let three = Three::start(App::new()).await;
    three.proxy.set(Faults::both(Fault {
        stall: true,
        ..Fault::default()
    }));
    let said = messages("stalled", 200, 4096);
    assert_eq!(three.hub.broadcast(&said).await, (400, 0));
    three.honest.hears("while another is stalled", &said).await;
    assert_eq!(three.far.heard().len(), 0);
    three.proxy.set(Faults::default());
    three.far.hears("after a stall", &said).await;
    three.recovered(&said).await;
    assert_eq!(three.proxy.accepted(), 1, "a short stall cost a connection");
}

#[tokio::test]
async fn a_seed_comes_back_after_a_long_stall() {
    let three = Three::start(App::new().configure(watchful)).await;
    three.proxy.change(|faults| faults.down.stall = true);
    let ends = &three.far.ends;
    until("the seed does not answer", || {
        !ends.lock().unwrap().is_empty()
    })
    .await;
    assert!(
        matches!(ends.lock().unwrap()[0], DisconnectReason::NoAnswer),
        "{ends:?}"
    );
    three.proxy.set(Faults::default());
    three.recovered(&[]).await;
    assert!(three.proxy.accepted() >= 2);
}

#[tokio::test]
async fn what_a_reset_costs_is_reported_and_the_seed_comes_back() {
    let three = Three::start(App::new()).await;
    let slowly = Fault {
        bytes_per_second: 1_000_000,
        chunk: 1024,
        ..Fault::default()
    };
    three.proxy.set(Faults::both(slowly));
    let said = messages("reset", 300, 8192);
    let (queued, dropped) = three.hub.broadcast(&said).await;
    assert_eq!((queued, dropped), (600, 0));
    let far = &three.far;
    until("some of it", || far.heard().len() > 10).await;
    three.proxy.reset();
    until("the end", || !far.ends.lock().unwrap().is_empty()).await;
    let heard = far.heard();
    assert!(
        heard.len() < said.len(),
        "the reset came too late to cost anything"
    );
    assert!(
        is_prefix(&heard, &said),
        "something is missing in the middle"
    );
    let hub = &three.hub;
    until("its end at the hub", || {
        !hub.ends.lock().unwrap().is_empty()
    })
    .await;
    three.proxy.set(Faults::default());
    three.recovered(&said).await;

    let Stats { sent, dropped, .. } = hub.mesh.shutdown().await;
    assert_eq!(
        sent + dropped,
        640,
        "queued, and neither written nor reported"
    );
    assert!(dropped > 0, "megabytes fit into the sockets");
    until("the drops are told", || {
        *hub.lost.lock().unwrap() == dropped
    })
    .await;
}

#[tokio::test]
async fn a_cut_inside_a_frame_costs_that_frame_and_the_seed_comes_back() {
    for cut in [3, 1000, 20_000, 20_001] {
        let three = Three::start(App::new()).await;
        // Counted from now on or from the beginning is the same: the handshake is shorter than a
        // frame.
        three
            .proxy
            .change(|faults| faults.down.cut_after = Some(cut));
        let said = messages("cut", 50, 1000);
        assert_eq!(three.hub.broadcast(&said).await.0 % 50, 0);
        let far = &three.far;
        until("the end", || !far.ends.lock().unwrap().is_empty()).await;
        let heard = far.heard();
        assert!(is_prefix(&heard, &said), "cut after {cut}: {heard:?}");
        assert!(heard.len() as u64 <= cut / 1000);
        three.proxy.set(Faults::default());
        three.recovered(&said).await;
    }
}

#[tokio::test]
async fn a_half_closed_connection_ends_and_the_seed_comes_back() {
    let three = Three::start(App::new()).await;
    three.proxy.change(|faults| faults.down.half_close = true);
    let ends = &three.far.ends;
    until("the end", || !ends.lock().unwrap().is_empty()).await;
    assert!(
        matches!(ends.lock().unwrap()[0], DisconnectReason::Closed),
        "{ends:?}"
    );
    three.proxy.set(Faults::default());
    three.recovered(&[]).await;
}

#[tokio::test]
async fn a_seed_that_was_restarted_is_reached_again() {
    let (seed, addr) = Node::listening().await;
    let node = Node::start(App::new().seeds([addr.to_string()])).await;
    node.peers(1).await;
    seed.mesh.shutdown().await;
    node.peers(0).await;
    let again = Node::start(App::new().configure(|config| config.min_peers = 0)).await;
    again
        .mesh
        .listen(&addr.to_string())
        .await
        .expect("the port of before");
    node.peers(1).await;
    again.peers(1).await;
    let said = messages("again", 10, 10);
    again.broadcast(&said).await;
    node.hears("the new one", &said).await;
}

#[tokio::test]
async fn a_lost_peer_is_replaced_by_another_seed() {
    let (one, one_addr) = Node::listening().await;
    let (two, two_addr) = Node::listening().await;
    let (first, second) = (Proxy::start(one_addr).await, Proxy::start(two_addr).await);
    let node = Node::start(App::new().seeds([first.addr(), second.addr()])).await;
    for _ in 0..3 {
        node.peers(1).await;
        until("one of them is in use", || {
            first.running() + second.running() == 1
        })
        .await;
        let (used, mesh) = if first.running() == 1 {
            (&first, &two)
        } else {
            (&second, &one)
        };
        used.change(|faults| faults.refuse = true);
        used.reset();
        mesh.peers(1).await;
        let before = node.heard().len();
        mesh.broadcast(&messages("instead", 5, 10)).await;
        until("the other one is heard", || {
            node.heard().len() == before + 5
        })
        .await;
        used.change(|faults| faults.refuse = false);
    }
}

#[tokio::test]
async fn connections_may_come_in_another_order() {
    let (hub, addr) = Node::listening().await;
    let proxy = Proxy::start(addr).await;
    proxy.change(|faults| faults.hold = true);
    let mut nodes = Vec::new();
    for _ in 0..5 {
        nodes.push(Node::start(App::new().seeds([proxy.addr()])).await);
    }
    until("all have dialled", || proxy.held() == 5).await;
    proxy.release(|held| held.reverse()).await;
    hub.peers(5).await;
    let said = messages("all", 20, 100);
    assert_eq!(hub.broadcast(&said).await, (100, 0));
    for node in &nodes {
        node.hears("whatever the order", &said).await;
    }
}

#[tokio::test]
async fn two_that_dial_each_other_keep_one_connection_and_lose_nothing() {
    for delay in [0, 5, 30] {
        let (one, one_addr) = Node::listening().await;
        let (two, two_addr) = Node::listening().await;
        let (to_one, to_two) = (Proxy::start(one_addr).await, Proxy::start(two_addr).await);
        let fault = Fault {
            delay: Duration::from_millis(delay),
            ..Fault::default()
        };
        to_one.set(Faults::both(fault));
        to_two.set(Faults::both(fault));
        let (two_at, one_at) = (to_two.addr(), to_one.addr());
        let (a, b) = tokio::join!(one.mesh.connect(&two_at), two.mesh.connect(&one_at));
        // One of the two may have been told that they are connected already.
        assert!(a.is_ok() || b.is_ok(), "{a:?} {b:?}");
        one.peers(1).await;
        two.peers(1).await;
        let (up, down) = (messages("up", 200, 500), messages("down", 200, 500));
        let (a, b) = tokio::join!(one.broadcast(&up), two.broadcast(&down));
        assert_eq!((a, b), ((200, 0), (200, 0)));
        two.hears("one", &up).await;
        one.hears("two", &down).await;
        until("one connection is left", || {
            to_one.running() + to_two.running() == 1
        })
        .await;
        assert!(one.ends.lock().unwrap().is_empty() && two.ends.lock().unwrap().is_empty());
    }
}
