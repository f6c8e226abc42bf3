//! Tests of in-memory meshes and recorders.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;

use super::{MemoryMesh, Recorder};
use crate::app::App;
use crate::message::Message;

/// Returns the panic message of a future.
async fn panic_of<T>(future: impl Future<Output = T>) -> String {
    match AssertUnwindSafe(future).catch_unwind().await {
        Ok(_) => "nothing".into(),
        Err(panic) => crate::error::panic_text(&*panic).to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn nodes_are_connected_as_the_topology_says() {
    let degrees = async |mesh: MemoryMesh| {
        let nodes = mesh.start(|_, app| app).await;
        let degrees: Vec<_> = nodes.iter().map(|mesh| mesh.peers().len()).collect();
        degrees
    };
    assert_eq!(degrees(MemoryMesh::new(4).line()).await, [1, 2, 2, 1]);
    assert_eq!(degrees(MemoryMesh::new(4).ring()).await, [2; 4]);
    assert_eq!(degrees(MemoryMesh::new(4).full()).await, [3; 4]);
    assert_eq!(degrees(MemoryMesh::new(3).edges([(2, 0)])).await, [1, 0, 1]);
    // More connections than a node accepts by default.
    let star = degrees(MemoryMesh::new(101).star()).await;
    assert_eq!((star[0], star[100]), (100, 1));
    let random = degrees(MemoryMesh::new(20).random(7)).await;
    assert_eq!(random, degrees(MemoryMesh::new(20).random(7)).await);
    assert!(random.iter().all(|degree| *degree > 0));
}

#[tokio::test(start_paused = true)]
async fn nodes_are_disconnected_and_connected_again() {
    let nodes = MemoryMesh::new(3).line().start(|_, app| app).await;
    let first = nodes.peer(0, 1);
    nodes.disconnect(0, 1).await;
    assert!(nodes[0].peers().is_empty());
    assert_eq!(nodes[1].peers().len(), 1);
    assert!(
        panic_of(async { nodes.peer(0, 1) })
            .await
            .contains("node 0 is not connected")
    );
    let again = nodes.connect(0, 1).await;
    assert_ne!(first, again);
    assert_eq!(nodes.peer(0, 1), again);
    assert!(
        panic_of(async { nodes[3].stats() })
            .await
            .contains("there is no node 3")
    );
    let stats = nodes.shutdown().await;
    assert_eq!(stats.dropped, 0);
}

#[tokio::test(start_paused = true)]
async fn a_mesh_is_settled_when_all_has_arrived() {
    let nodes = MemoryMesh::new(5).star().start(|_, app| app).await;
    for _ in 0..50 {
        let _ = nodes[0].broadcast_payload(vec![0; 10_000]).await.unwrap();
    }
    let start = Instant::now();
    nodes.settled().await;
    assert_eq!(nodes.stats().received, 200);
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_recorder_tells_what_came_in_place_of_what_it_expected() {
    let mesh = App::new().start().await.unwrap();
    let mut inside = Recorder::of(&mesh);
    let mut outside = Recorder::join(&mesh).await;
    assert_eq!(
        outside.peer().agent(),
        mesh.peers().config().agent.as_str().into()
    );

    outside.send(&Message::new("beep", &1)).await;
    let said = panic_of(inside.expect_message("boop")).await;
    assert!(
        said.contains("expected a \"boop\"") && said.contains("beep"),
        "{said}"
    );
    assert_eq!(inside.frames().len(), 1);

    outside.send_payload("no message").await;
    outside.send(&Message::new("boop", &2)).await;
    assert_eq!(
        inside.wait_for_message("boop").await.body::<u8>().unwrap(),
        2
    );
    assert_eq!(inside.frames().len(), 3);
    inside.expect_nothing().await;

    let said = panic_of(outside.expect_frame()).await;
    assert!(
        said.contains("no frame within") && said.contains("nothing"),
        "{said}"
    );
    let _ = inside.broadcast(&Message::new("bop", &3)).await;
    let said = panic_of(outside.expect_nothing()).await;
    assert!(
        said.contains("expected nothing") && said.contains("bop"),
        "{said}"
    );

    let error = outside.request("anyone?", &()).await.unwrap_err();
    assert!(error.is_no_answer(), "{error}");
    let said = panic_of(inside.send(&Message::new("beep", &()))).await;
    assert!(said.contains("Recorder::join"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_recorder_is_of_the_nodes_network_and_wire() {
    let app = App::new()
        .network("elsewhere")
        .wire(crate::wire::Wire::lines());
    let mesh = app.start().await.unwrap();
    let mut inside = Recorder::of(&mesh);
    let outside = Recorder::join(&mesh).await;
    outside.send_payload("a line").await;
    assert_eq!(inside.expect_frame().await.payload(), b"a line");

    let mesh = App::new().network("elsewhere").start().await.unwrap();
    let outside = Recorder::join(&mesh).await;
    assert!(outside.peer().is_connected());
}
