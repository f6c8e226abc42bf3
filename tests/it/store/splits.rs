//! Splits that heal, nodes that come late, broadcasts that are lost.

use std::time::Duration;

use support::internet::Internet;

use super::nodes::{Node, ip, until_same, within};
use super::sync::FRAME_MAX;

#[tokio::test(start_paused = true)]
async fn both_halves_of_a_split_write_and_hold_the_same_when_it_has_healed() {
    let internet = Internet::new();
    let nodes = Node::line(&internet, 6).await;
    nodes[0].set("color", "red").await;
    nodes[5].set("deleted", "there").await;
    until_same("what was written before", &nodes, |node| {
        node.has("color", "red") && node.has("deleted", "there")
    })
    .await;

    internet.split(1, (3..6).map(ip));
    let apart = |node: usize| nodes[node].mesh.peers().len() == 1;
    within("the split", Duration::from_secs(60), || {
        apart(2) && apart(3)
    })
    .await;
    let (left, right) = nodes.split_at(3);
    left[0].set("left", "1").await;
    left[1].set("color", "green").await;
    left[2].del("deleted").await;
    right[0].set("color", "blue").await;
    right[2].set("right", "2").await;
    until_same("the left half", left, |node| {
        node.has("color", "green") && node.has("left", "1") && node.store.get("deleted").is_none()
    })
    .await;
    until_same("the right half", right, |node| {
        node.has("color", "blue") && node.has("right", "2") && node.has("deleted", "there")
    })
    .await;
    assert!(left.iter().all(|node| node.store.get("right").is_none()));
    assert!(right.iter().all(|node| node.store.get("left").is_none()));

    internet.heal();
    until_same("the healed mesh", &nodes, |node| node.has("color", "blue")).await;
    let healed = nodes[0].store.list().into_iter().collect::<Vec<_>>();
    let expected = [("color", "blue"), ("left", "1"), ("right", "2")];
    assert_eq!(
        healed,
        expected.map(|(key, value)| (key.to_owned(), value.to_owned()))
    );
}

#[tokio::test(start_paused = true)]
async fn who_comes_late_gets_all_of_10_000_entries() {
    let internet = Internet::new();
    let old = Node::start(&internet, 0, &[]).await;
    for number in 0..10_000 {
        old.set(&format!("key {number}"), &format!("{number:0>100}"))
            .await;
    }
    let late = Node::start(&internet, 1, &[0]).await;
    let nodes = [old, late];
    until_same("all of it", &nodes, |node| {
        node.store.list().len() == 10_000
    })
    .await;
    let received = || nodes[1].mesh.stats().bytes_received;
    let all = received();
    assert!(
        all > 10 * FRAME_MAX as u64,
        "{all} bytes are not many frames"
    );

    // From then on asking costs little, as long as there is nothing to tell.
    let asked = nodes[0].mesh.stats().received;
    let more = || nodes[0].mesh.stats().received >= asked + 10;
    within("ten more questions", Duration::from_secs(600), more).await;
    assert!(
        received() - all < 40_000,
        "{} bytes for nothing",
        received() - all
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_broadcast_is_repaired() {
    let internet = Internet::new();
    let nodes = Node::line(&internet, 2).await;
    for (node, other) in [(0, 1), (1, 0)] {
        let key = format!("lost by {node}");
        nodes[node].set_unheard(&key, "1").await;
        assert!(!nodes[other].has(&key, "1"));
        let arrived = || nodes[other].has(&key, "1");
        within("the repair", Duration::from_secs(20), arrived).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_learned_by_asking_travels_on_at_once() {
    let internet = Internet::new();
    let mut nodes = Node::line(&internet, 8).await;
    let late = Node::start(&internet, 8, &[]).await;
    late.set("late", "1").await;
    late.mesh
        .connect(&super::nodes::addr(7))
        .await
        .expect("a peer");
    nodes.push(late);
    // Eight hops; a question comes only every ten seconds on average to each.
    let all = || nodes.iter().all(|node| node.has("late", "1"));
    within("the far end", Duration::from_secs(10), all).await;
}

#[tokio::test(start_paused = true)]
async fn who_restarts_with_nothing_gets_back_what_others_kept() {
    let internet = Internet::new();
    let mut nodes = Node::line(&internet, 3).await;
    nodes[1].set("before", "1").await;
    until_same("the first write", &nodes, |node| node.has("before", "1")).await;
    let middle = nodes.remove(1);
    middle.mesh.abort().await;
    drop(middle);
    nodes[0].set("left", "1").await;
    nodes[1].set("right", "1").await;
    assert!(nodes[0].store.get("right").is_none());
    nodes.insert(1, Node::start(&internet, 1, &[0]).await);
    let all = ["before", "left", "right"];
    until_same("everything", &nodes, |node| {
        all.iter().all(|key| node.has(key, "1"))
    })
    .await;
}
