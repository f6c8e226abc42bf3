//! Trees.

use std::time::Duration;

use coalescent_core::AppExt;
use coalescent_layers::overlay::topic::TopicStats;
use coalescent_layers::{Overlay, Topic};
use support::until;
use tokio::time::{sleep, timeout};

use super::nodes::{Nodes, next, nothing};

async fn tree(count: usize) -> (Nodes, Vec<Topic>) {
    let nodes = Nodes::start(count, |_, app, overlay: Overlay| {
        app.with(overlay.tree("video"))
    })
    .await;
    let topics = nodes.subscribe("video", 0..count).await;
    sleep(Duration::from_secs(60)).await;
    (nodes, topics)
}

fn sums(topics: &[Topic]) -> (u64, u64) {
    let stats = topics.iter().map(Topic::stats);
    stats.fold((0, 0), |(received, copies), stats| {
        (received + stats.received, copies + stats.copies)
    })
}

#[tokio::test(start_paused = true)]
async fn once_warm_hardly_any_copy_is_sent() {
    let (_nodes, mut topics) = tree(50).await;
    // One sender, whose first payloads form the tree.
    for number in 0..10_u8 {
        topics[0].publish(vec![number; 1024]).await.unwrap();
        for topic in &mut topics[1..] {
            assert_eq!(next(topic).await, vec![number; 1024]);
        }
        sleep(Duration::from_secs(1)).await;
    }
    let before = sums(&topics);
    let payloads = 200;
    for number in 0..payloads {
        topics[0].publish(vec![number as u8; 1024]).await.unwrap();
        sleep(Duration::from_millis(10)).await;
    }
    for topic in &mut topics[1..] {
        // Where a neighbour has changed meanwhile, one may come later than those after it.
        let mut got = Vec::new();
        for _ in 0..payloads {
            got.push(next(topic).await);
        }
        got.sort();
        let sent = (0..payloads).map(|number| vec![number as u8; 1024]);
        assert!(got.into_iter().eq(sent), "some are missing");
    }
    let after = sums(&topics);
    let (received, copies) = (after.0 - before.0, after.1 - before.1);
    assert_eq!(received, 49 * payloads);
    let ratio = (received + copies) as f64 / received as f64;
    println!("{ratio:.3} copies a delivery");
    assert!(ratio <= 1.1, "{ratio} copies a delivery");
}

#[tokio::test(start_paused = true)]
async fn equal_payloads_are_two_and_large_ones_arrive() {
    let (_nodes, mut topics) = tree(10).await;
    for _ in 0..2 {
        topics[3].publish("beep").await.unwrap();
    }
    let large = vec![7; topics[3].largest()];
    topics[3].publish(large.clone()).await.unwrap();
    for (number, topic) in topics.iter_mut().enumerate() {
        if number == 3 {
            continue;
        }
        let mut got = [next(topic).await, next(topic).await, next(topic).await];
        got.sort_by_key(Vec::len);
        assert!(got == [b"beep".to_vec(), b"beep".to_vec(), large.clone()]);
        nothing(topic).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_held_back_and_nothing_is_missed() {
    let (nodes, mut topics) = tree(20).await;
    let publisher = topics.remove(0);
    let payloads = 3000;
    let reading: Vec<_> = topics
        .into_iter()
        .map(|mut topic| {
            tokio::spawn(async move {
                while topic.stats().received < payloads || topic.try_recv().is_some() {
                    let received = timeout(Duration::from_secs(60), topic.recv());
                    if received.await.is_err() {
                        break;
                    }
                }
                topic.stats()
            })
        })
        .collect();
    for number in 0..payloads {
        publisher.publish(vec![number as u8; 4096]).await.unwrap();
    }
    let mut all = Vec::new();
    for read in reading {
        all.push(read.await.unwrap());
    }
    let missed = |stats: &TopicStats| payloads - stats.received;
    assert_eq!(all.iter().map(missed).sum::<u64>(), 0, "{all:#?}");
    assert_eq!(all.iter().map(|stats| stats.unread).sum::<u64>(), 0);
    drop(nodes);
}

#[tokio::test(start_paused = true)]
async fn the_tree_heals_when_an_inner_node_dies() {
    let (nodes, mut topics) = tree(50).await;
    for number in 0..20_u8 {
        topics[0].publish(vec![number]).await.unwrap();
        for topic in &mut topics[1..] {
            assert_eq!(next(topic).await, [number]);
        }
    }
    // Who passes most on is an inner node.
    let inner = (1..50)
        .max_by_key(|number| topics[*number].stats().forwarded)
        .unwrap();
    assert!(topics[inner].stats().forwarded >= 20);
    nodes.meshes[inner].abort().await;
    for number in 100..110_u8 {
        topics[0].publish(vec![number]).await.unwrap();
        sleep(Duration::from_millis(300)).await;
    }
    sleep(Duration::from_secs(30)).await;
    for (number, topic) in topics.iter_mut().enumerate() {
        if number == 0 || number == inner {
            continue;
        }
        let mut got = Vec::new();
        for _ in 0..10 {
            got.extend(next(topic).await);
        }
        got.sort_unstable();
        assert_eq!(got, (100..110).collect::<Vec<u8>>(), "node {number}");
    }
    let (before, _) = sums(&topics);
    topics[0].publish("warm").await.unwrap();
    until("all have it", || sums(&topics).0 == before + 48).await;
}
