//! What does not cross is counted and reported, over an engine in memory, on paused time.

use std::time::Duration;

use coalescent::transport::Memory;
use coalescent::{Event, Events};
use coalescent_bridge::{Bridge, Heard, REPORT, Stats};
use tokio::time::sleep;

use crate::bus::{Bus, OnBus};
use crate::support::{Node, once, until};

/// Starts a node with a bridge, and waits until it is connected.
async fn start(bus: &Bus) -> (Node, Stats, Events) {
    let bridge = Bridge::new(bus.engine());
    let stats = bridge.stats();
    let node = Node::start(&Memory::new(), "a:1", &[], bridge).await;
    let events = node.mesh.events();
    node.mesh.connected(1).await.unwrap();
    (node, stats, events)
}

/// Waits for the next error that a plugin reports.
async fn reported(events: &mut Events) -> String {
    loop {
        match events.next().await.unwrap() {
            Event::Error { error, .. } if error.is_plugin() => return error.to_string(),
            _ => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_no_room_is_dropped_counted_and_now_and_then_reported() {
    let bus = Bus::default();
    let (node, stats, mut events) = start(&bus).await;
    bus.set_full(true);
    let begun = tokio::time::Instant::now();
    for number in 0..25 {
        node.say(format!("{number:04}")).await;
    }
    // The first one is held.
    until("all are dropped", || stats.lost() == 24).await;
    // Only the second one has waited.
    assert!(begun.elapsed() < Duration::from_secs(2));
    let report = reported(&mut events).await;
    assert!(report.contains("1 messages have not crossed"), "{report}");
    let again = tokio::time::timeout(REPORT / 2, reported(&mut events)).await;
    assert!(again.is_err(), "{again:?}");
    sleep(REPORT).await;
    node.say("later").await;
    let report = reported(&mut events).await;
    assert!(report.contains("25 messages have not crossed"), "{report}");

    bus.set_full(false);
    until("what was held crosses", || bus.said() == once(["0000"])).await;
    node.say("room again").await;
    let crossed = once(["0000", "room again"]);
    until("it crosses", || bus.said() == crossed).await;
    // It waits for room again.
    bus.set_full(true);
    node.say("held").await;
    node.say("patient").await;
    sleep(Duration::from_millis(500)).await;
    bus.set_full(false);
    until("it crosses", || bus.said().contains_key("patient")).await;
    assert_eq!(stats.lost(), 25);
}

#[tokio::test(start_paused = true)]
async fn what_one_side_cannot_carry_costs_nothing_else() {
    let bus = Bus::default();
    let (mut node, stats, mut events) = start(&bus).await;
    node.say("unspeakable").await;
    node.say("fine").await;
    until("the other one crosses", || bus.said() == once(["fine"])).await;
    assert_eq!(stats.lost(), 1);
    assert!(reported(&mut events).await.ends_with("since: no"));
    for nonce in [None, Some(1)] {
        bus.publish(nonce, &"x".repeat(2 * 1024 * 1024));
    }
    bus.publish(None, "fine too");
    assert_eq!(node.heard(1).await, once(["fine too"]));
    assert_eq!(stats.lost(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_the_engine_has_dropped_is_counted() {
    let bus = Bus::default();
    let (_node, stats, mut events) = start(&bus).await;
    bus.tell(&Heard::Missed(5));
    assert!(reported(&mut events).await.starts_with("5 messages"));
    assert_eq!(stats.lost(), 5);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_engine_is_reported() {
    let bus = Bus::default();
    let (_node, _, mut events) = start(&bus).await;
    bus.end();
    let report = reported(&mut events).await;
    assert!(report.contains("the bridge has ended"), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_leaves_says_all_it_has() {
    let bus = Bus::default();
    let (node, stats, _) = start(&bus).await;
    // More than fits into the bridge's pipe.
    let texts: Vec<_> = (0..1000).map(|number| format!("{number:0300}")).collect();
    for text in &texts {
        node.say(text).await;
    }
    let mesh_stats = node.mesh.shutdown().await;
    assert!(bus.said() == once(&texts), "{} are said", bus.said().len());
    assert_eq!((mesh_stats.dropped, stats.lost()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn leaving_does_not_wait_for_an_engine_without_room() {
    let bus = Bus::default();
    let (node, stats, mut events) = start(&bus).await;
    bus.set_full(true);
    for number in 0..1000 {
        node.say(number.to_string()).await;
    }
    let begun = tokio::time::Instant::now();
    node.mesh.shutdown().await;
    assert!(begun.elapsed() < Duration::from_secs(4));
    assert_eq!(stats.lost(), 1000);
    while !reported(&mut events).await.contains("the last messages") {}
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_engine_does_not_hold_the_shutdown_up() {
    let bus = Bus::default();
    let (node, _, mut events) = start(&bus).await;
    bus.end();
    reported(&mut events).await;
    let begun = tokio::time::Instant::now();
    node.mesh.shutdown().await;
    assert!(begun.elapsed() < Duration::from_secs(3));
}

/// More than waits to be read in a topic.
#[cfg(feature = "topics")]
#[tokio::test(start_paused = true)]
async fn all_that_a_topic_drops_is_counted() {
    use coalescent::{App, AppExt, MeshOverlayExt, Overlay};

    let bus = Bus::default();
    let bridge = Bridge::<OnBus>::new(bus.engine()).topic("video");
    let stats = bridge.stats();
    let network = Memory::new();
    let app = || App::new().transport(network.clone()).with(Overlay::new());
    let a = app().plugin(bridge).listen("a:1").await.unwrap();
    let b = app().seeds(["a:1"]).listen("b:2").await.unwrap();
    let video = b.topic("video").unwrap();
    video.connected(1).await.unwrap();
    bus.set_full(true);
    for number in 0..40_u8 {
        video.publish(vec![number; 512 * 1024]).await.unwrap();
    }
    sleep(Duration::from_secs(5)).await;
    bus.set_full(false);
    video.publish("the end").await.unwrap();
    until("it crosses", || bus.said().contains_key("the end")).await;
    // One was held.
    assert_eq!((stats.said(), bus.said().len()), (2, 2));
    assert_eq!(stats.lost(), 39);
    drop(a);
}
