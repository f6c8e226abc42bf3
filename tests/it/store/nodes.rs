//! Nodes of the store on an internet in memory, and on paused time.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use coalescent::{App, AppExt, Courier, Mesh, SmartRelay};
use support::internet::Internet;
use tokio::time::{Instant, sleep, timeout};

use super::sync::{FRAME_MAX, Store};

/// The longest that anything takes here, in simulated time: redialling after a split.
const LONG: Duration = Duration::from_secs(600);

/// How often a condition is looked at, in simulated time.
const LOOK: Duration = Duration::from_millis(50);

/// A node of the store, as the example starts it.
pub(crate) struct Node {
    pub(crate) mesh: Mesh,
    pub(crate) store: Store,
}

/// Where a node is.
pub(crate) fn ip(node: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, node).into()
}

pub(crate) fn addr(node: u8) -> String {
    format!("{}:1337", ip(node))
}

/// An app of whatever it is made, at the place of a node.
pub(crate) fn app(internet: &Internet, node: u8, seeds: &[u8]) -> App {
    App::new()
        .transport(internet.host(ip(node)))
        .allow_plaintext()
        .network("example/store")
        .max_frame(FRAME_MAX)
        .min_peers(seeds.len())
        .seeds(seeds.iter().copied().map(addr))
}

impl Node {
    pub(crate) async fn start(internet: &Internet, node: u8, seeds: &[u8]) -> Self {
        let store = Store::new();
        let mesh = app(internet, node, seeds)
            .plugin(store.clone())
            .with(SmartRelay::new())
            .with(Courier::new())
            .with(store.router())
            .listen(addr(node))
            .await
            .expect("a node that starts");
        Self { mesh, store }
    }

    /// Starts nodes that are connected in a line, with numbers from 0.
    pub(crate) async fn line(internet: &Internet, nodes: u8) -> Vec<Self> {
        let mut line = Vec::new();
        for node in 0..nodes {
            let before = node.checked_sub(1);
            line.push(Self::start(internet, node, before.as_slice()).await);
        }
        for (number, node) in line.iter().enumerate().skip(1) {
            let before = number - 1;
            node.mesh.connected(1).await.expect("a mesh");
            let peers = || line[before].mesh.peers().len();
            let wanted = if before == 0 { 1 } else { 2 };
            within("a line", LONG, || peers() == wanted).await;
        }
        line
    }

    pub(crate) async fn set(&self, key: &str, value: &str) {
        let written = self.store.write(&self.mesh, key, Some(value)).await;
        written.expect("a write");
    }

    pub(crate) async fn del(&self, key: &str) {
        let written = self.store.write(&self.mesh, key, None).await;
        written.expect("a delete");
    }

    /// Writes so that nobody is told: as a broadcast that was lost on its way to each peer.
    pub(crate) async fn set_unheard(&self, key: &str, value: &str) {
        let nobody = App::new()
            .with(Courier::new())
            .start()
            .await
            .expect("a mesh");
        let written = self.store.write(&nobody, key, Some(value)).await;
        written.expect("a write");
    }

    pub(crate) fn has(&self, key: &str, value: &str) -> bool {
        self.store.get(key).as_deref() == Some(value)
    }
}

/// Waits until all of the nodes list the same, and `condition` holds.
pub(crate) async fn until_same(what: &str, nodes: &[Node], condition: impl Fn(&Node) -> bool) {
    within(what, LONG, || {
        let first = nodes[0].store.list();
        nodes
            .iter()
            .all(|node| condition(node) && node.store.list() == first)
    })
    .await;
}

/// Waits until a condition holds, for at most so long, and returns how long it took.
pub(crate) async fn within(what: &str, limit: Duration, condition: impl Fn() -> bool) -> Duration {
    let begun = Instant::now();
    let holds = async {
        while !condition() {
            sleep(LOOK).await;
        }
    };
    let held = timeout(limit, holds).await;
    held.unwrap_or_else(|_| panic!("not within {limit:?}: {what}"));
    begun.elapsed()
}
