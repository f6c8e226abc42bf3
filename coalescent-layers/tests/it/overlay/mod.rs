//! The overlay, in whole nodes over memory and on paused time.

mod hostile;
mod plain;
mod swarm;

use std::time::Duration;

use coalescent_layers::MeshOverlayExt;
use swarm::Swarm;
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn two_nodes_become_neighbours() {
    let mut swarm = Swarm::new(1);
    swarm.start(2, 1).await;
    sleep(Duration::from_secs(10)).await;
    for node in swarm.nodes() {
        assert_eq!(node.mesh.peers().len(), 1);
        assert_eq!(node.mesh.overlay().unwrap().neighbours, 1);
    }
    swarm.all_hear(0).await;
}

#[tokio::test(start_paused = true)]
async fn twenty_nodes_are_one_mesh_of_few_neighbours() {
    let mut swarm = Swarm::new(2);
    swarm.start(20, 1).await;
    sleep(Duration::from_secs(30)).await;
    swarm.degrees_are_few();
    for from in [0, 7, 19] {
        swarm.all_hear(from).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_nodes_are_one_mesh_also_after_half_of_them_died() {
    let mut swarm = Swarm::new(3);
    swarm.start(100, 3).await;
    sleep(Duration::from_secs(30)).await;
    swarm.degrees_are_few();
    swarm.all_hear(0).await;
    swarm.kill(50).await;
    sleep(Duration::from_secs(30)).await;
    swarm.degrees_are_few();
    for from in [0, 25, 49] {
        swarm.all_hear(from).await;
    }
}
