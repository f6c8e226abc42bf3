//! Nodes that know no overlay, nodes with keys, and nodes that leave.

use std::time::Duration;

use coalescent_core::transport::Memory;
use coalescent_core::{App, AppExt, Event, Mesh, Source};
use coalescent_layers::{MeshOverlayExt, Overlay, SmartRelay};
use support::until;
use tokio::time::sleep;

use super::swarm::Swarm;

fn neighbours(mesh: &Mesh) -> usize {
    mesh.overlay().unwrap().neighbours
}

#[tokio::test(start_paused = true)]
async fn a_seed_that_knows_no_overlay_is_an_ordinary_peer_and_dialled_again() {
    let network = Memory::new();
    let plain = || App::new().transport(network.clone()).listen("plain:7");
    let seed = plain().await.unwrap();
    let app = App::new().transport(network.clone()).seeds(["plain:7"]);
    let node = app.with(Overlay::new().seed(1)).listen("node:0");
    let node = node.await.unwrap();
    until("it is a peer", || seed.peers().len() == 1).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!((node.peers().len(), neighbours(&node)), (1, 0));
    seed.abort().await;
    until("it is gone", || node.peers().is_empty()).await;
    let seed = plain().await.unwrap();
    until("it is back", || seed.peers().len() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn who_leaves_is_replaced_at_once() {
    let mut swarm = Swarm::new(5);
    swarm.start(12, 2).await;
    sleep(Duration::from_secs(30)).await;
    let leaving = swarm.nodes()[3].mesh.clone();
    leaving.shutdown().await;
    let stats = leaving.overlay().unwrap();
    assert_eq!(stats.neighbours, 0, "{stats:?}");
    sleep(Duration::from_secs(5)).await;
    for (number, node) in swarm.nodes().iter().enumerate() {
        let enough = number == 3 || node.mesh.peers().len() >= 3;
        assert!(enough, "{number}: {:?}", node.mesh.overlay());
    }
}

#[tokio::test(start_paused = true)]
async fn addresses_that_others_told_are_told_of_once() {
    let mut swarm = Swarm::new(6);
    let overlay = Overlay::new().seed(99);
    swarm.start(12, 1).await;
    let seed = swarm.nodes()[0].mesh.local_addrs()[0].to_string();
    let app = App::new().transport(swarm.network.clone()).seeds([seed]);
    let mesh = app.with(overlay).listen("late:0").await.unwrap();
    let mut events = mesh.events();
    sleep(Duration::from_secs(60)).await;
    let _ = mesh.shutdown().await;
    let mut told = Vec::new();
    while let Some(event) = events.next().await {
        if let Event::Discovered { addr, source } = event {
            assert_eq!(source, Source::OVERLAY);
            told.push(addr);
        }
    }
    let count = told.len();
    told.sort_unstable();
    told.dedup();
    assert!(count > 0 && told.len() == count, "{told:?}");
}

#[cfg(feature = "tls")]
#[tokio::test(start_paused = true)]
async fn nodes_with_keys_know_each_other_by_them() {
    use coalescent_core::identity::Identity;

    let network = Memory::new();
    let mut nodes: Vec<Mesh> = Vec::new();
    for number in 0..6 {
        let identity = Identity::generate();
        let mut app = App::new().transport(network.clone()).identity(identity);
        if let Some(first) = nodes.first() {
            let key = first.public_key().unwrap();
            app = app.seeds([format!("{key}@{}", first.local_addrs()[0])]);
        }
        let app = app
            .with(Overlay::new().seed(number))
            .with(SmartRelay::new());
        nodes.push(app.listen("node:0").await.unwrap());
    }
    sleep(Duration::from_secs(60)).await;
    for node in &nodes {
        assert!((3..=5).contains(&neighbours(node)), "{:?}", node.overlay());
        assert_eq!(node.peers().len(), neighbours(node));
        let stats = node.overlay().unwrap();
        assert_eq!(stats.faults, 0, "{stats:?}");
    }
}
