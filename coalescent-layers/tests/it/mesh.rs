//! Relays in whole meshes, in memory and on paused time.

use coalescent_core::test_util::MemoryMesh;
use coalescent_core::{App, AppExt, Message, PeerLayer};
use coalescent_layers::{Courier, MeshExt, SmartRelay, Tattletale};

/// Has each node broadcast once, and makes sure that each other one hears it once; returns how many
/// frames crossed a connection.
async fn gossip<L: PeerLayer>(mesh: MemoryMesh, build: impl Fn(App) -> App<L>) -> u64 {
    let nodes = mesh.start(|_, app| build(app)).await;
    let mut recorders = nodes.recorders();
    for (node, mesh) in nodes.iter().enumerate() {
        let _ = mesh.broadcast("from", &node).await.unwrap();
    }
    nodes.settled().await;
    for (node, recorder) in recorders.iter_mut().enumerate() {
        let mut heard = Vec::new();
        for _ in 1..nodes.len() {
            heard.push(
                recorder
                    .expect_message("from")
                    .await
                    .body::<usize>()
                    .unwrap(),
            );
        }
        recorder.expect_nothing().await;
        heard.sort_unstable();
        let others: Vec<_> = (0..nodes.len()).filter(|other| *other != node).collect();
        assert_eq!(heard, others, "at node {node}");
    }
    let stats = nodes.stats();
    assert_eq!(stats.dropped, 0);
    stats.received
}

#[tokio::test(start_paused = true)]
async fn smart_relay_carries_each_message_to_each_node_once() {
    let smart = |app: App| app.with(SmartRelay::new()).with(Courier::new());
    let meshes = [
        MemoryMesh::new(8).line(),
        MemoryMesh::new(9).ring(),
        MemoryMesh::new(8).star(),
        MemoryMesh::new(8).full(),
        MemoryMesh::new(24).random(1),
        MemoryMesh::new(24).random(2),
    ];
    for mesh in meshes {
        gossip(mesh, smart).await;
    }
    let only_what_parses = |app: App| app.with(Courier::new()).with(SmartRelay::new());
    gossip(MemoryMesh::new(9).ring(), only_what_parses).await;
    let after = |app: App| {
        app.with(SmartRelay::new().relay_after())
            .with(Courier::new())
    };
    gossip(MemoryMesh::new(9).ring(), after).await;
}

#[tokio::test(start_paused = true)]
async fn tattletale_carries_each_message_once_over_each_connection_of_a_tree() {
    let tell = |app: App| app.with(Tattletale::new()).with(Courier::new());
    let tree = MemoryMesh::new(7).edges([(1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (6, 2)]);
    for mesh in [MemoryMesh::new(7).line(), MemoryMesh::new(7).star(), tree] {
        // Seven messages, six connections, none the wrong way.
        assert_eq!(gossip(mesh, tell).await, 7 * 6);
    }
}

#[tokio::test(start_paused = true)]
async fn a_mesh_that_was_cut_and_joined_again_goes_on() {
    let nodes = MemoryMesh::new(4)
        .line()
        .start(|_, app| app.with(SmartRelay::new()).with(Courier::new()))
        .await;
    let mut far = nodes.recorder(3);
    nodes.disconnect(1, 2).await;
    let _ = nodes[0].broadcast("lost", &()).await.unwrap();
    far.expect_nothing().await;
    nodes.connect(2, 0).await;
    let message = Message::new("found", &());
    let _ = nodes[0].broadcast_message(message).await.unwrap();
    far.expect_message("found").await;
}
