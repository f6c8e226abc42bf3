//! Topics of the overlay, in whole nodes over memory and on paused time.

mod hostile;
mod judged;
mod nodes;
mod tree;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use coalescent_core::{App, AppExt, Mesh, TopicName};
use coalescent_layers::{Courier, MeshOverlayExt, Overlay, SmartRelay};
use nodes::{Nodes, next, nothing};
use support::until;
use tokio::time::{sleep, timeout};

#[tokio::test(start_paused = true)]
async fn only_subscribers_get_a_payload_and_each_once() {
    let nodes = Nodes::start(12, |_, app, overlay| {
        app.with(overlay).with(SmartRelay::new())
    })
    .await;
    let mut evens = nodes.subscribe("evens", (0..12).step_by(2)).await;
    let mut threes = nodes.subscribe("threes", (0..12).step_by(3)).await;
    sleep(Duration::from_secs(30)).await;
    evens[1].publish("even").await.unwrap();
    threes[2].publish("three").await.unwrap();
    for (number, topic) in evens.iter_mut().enumerate() {
        if number != 1 {
            assert_eq!(next(topic).await, b"even");
        }
        nothing(topic).await;
    }
    for (number, topic) in threes.iter_mut().enumerate() {
        if number != 2 {
            assert_eq!(next(topic).await, b"three");
        }
        nothing(topic).await;
    }
    let error = nodes.meshes[0].topic("").unwrap_err();
    assert!(error.is_plugin());
    // Nodes of no topic have seen nothing of it.
    for number in [1, 5, 7, 11] {
        let stats = nodes.meshes[number].stats();
        assert_eq!(stats.received, 0, "{number}: {stats:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_equal_payloads_are_two() {
    let nodes = Nodes::start(5, |_, app, overlay| app.with(overlay)).await;
    let mut topics = nodes.subscribe("a", 0..5).await;
    for _ in 0..2 {
        topics[0].publish("beep").await.unwrap();
    }
    for topic in &mut topics[1..] {
        for _ in 0..2 {
            assert_eq!(next(topic).await, b"beep");
        }
        nothing(topic).await;
    }
    let stats = topics[0].stats();
    assert_eq!((stats.published, stats.received), (2, 0));
    assert!(stats.copies > 0 || stats.forwarded > 0);
}

#[tokio::test(start_paused = true)]
async fn a_frame_says_its_topic_and_reaches_neither_the_mesh_nor_its_relay() {
    let nodes = Nodes::start(3, |_, app, overlay| {
        app.with(overlay).with(SmartRelay::new().direct(true))
    })
    .await;
    let mut readers: Vec<_> = nodes.meshes.iter().map(Mesh::reader).collect();
    let mut topics = nodes.subscribe("a", 0..3).await;
    topics[0].publish("beep").await.unwrap();
    for topic in &mut topics[1..] {
        let frame = timeout(Duration::from_secs(9), topic.recv())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(frame.extensions().get(), Some(&TopicName::from("a")));
        assert_eq!(frame.payload(), b"beep");
        assert!(!frame.is_broadcast() && !frame.is_request());
    }
    for reader in &mut readers {
        assert!(
            timeout(Duration::from_secs(9), reader.next_frame())
                .await
                .is_err()
        );
    }
    assert!(nodes.meshes.iter().all(|mesh| mesh.stats().relayed == 0));
}

#[tokio::test(start_paused = true)]
async fn leaving_one_topic_does_not_cut_a_peer_that_another_needs() {
    let nodes = Nodes::start(2, |_, app, overlay| app.with(overlay)).await;
    let mut a = nodes.subscribe("a", 0..2).await;
    let b = nodes.subscribe("b", 0..2).await;
    let clone = b[0].clone();
    drop(b);
    // The clone is a handle too.
    sleep(Duration::from_secs(30)).await;
    assert!(clone.neighbours().is_empty(), "the other node has left");
    assert_eq!(nodes.meshes[0].overlay().unwrap().topics, 3);
    drop(clone);
    assert_eq!(nodes.meshes[0].overlay().unwrap().topics, 2);
    sleep(Duration::from_secs(30)).await;
    a[0].publish("beep").await.unwrap();
    assert_eq!(next(&mut a[1]).await, b"beep");
    assert_eq!(nodes.meshes[0].peers().len(), 1);
    // One who comes back is a subscriber again.
    let mut b = nodes.subscribe("b", 0..2).await;
    b[1].publish("boop").await.unwrap();
    assert_eq!(next(&mut b[0]).await, b"boop");
}

#[tokio::test(start_paused = true)]
async fn publishing_waits_for_a_neighbour_and_ends_with_the_mesh() {
    let nodes = Nodes::start(2, |_, app, overlay| app.with(overlay)).await;
    let mut topic = nodes.meshes[0].topic("a").unwrap();
    let publisher = topic.clone();
    let published = publisher.publish("beep");
    tokio::pin!(published);
    assert!(
        timeout(Duration::from_secs(60), &mut published)
            .await
            .is_err()
    );
    let mut other = nodes.meshes[1].topic("a").unwrap();
    let queued = timeout(Duration::from_secs(120), published).await;
    assert_eq!(queued.expect("a neighbour has come").unwrap(), 1);
    assert_eq!(next(&mut other).await, b"beep");

    let alone = nodes.meshes[0].topic("alone").unwrap();
    let waits = tokio::spawn(async move { alone.publish("nobody").await });
    sleep(Duration::from_secs(1)).await;
    nodes.meshes[0].shutdown().await;
    let error = waits.await.unwrap().unwrap_err();
    assert!(error.is_closed(), "{error}");
    assert!(topic.recv().await.is_none());
    assert!(nodes.meshes[0].topic("late").is_err());
}

#[tokio::test(start_paused = true)]
async fn the_largest_payload_fits_and_a_larger_one_is_an_error() {
    let nodes = Nodes::start(3, |_, app, overlay| app.with(overlay)).await;
    let mut topics = nodes.subscribe("a", 0..3).await;
    let largest = topics[0].largest();
    let max = nodes.meshes[0].peers().config().max_frame;
    assert!(largest > max - 100 && largest < max);
    for number in 0..4 {
        let payload = vec![number; largest];
        topics[0].publish(payload.clone()).await.unwrap();
        for topic in &mut topics[1..] {
            assert!(next(topic).await == payload);
        }
    }
    let error = topics[0].publish(vec![0; largest + 1]).await.unwrap_err();
    assert!(error.is_encode(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn neighbours_that_take_less_are_an_error_and_not_silence() {
    let small = |number, app: App, overlay| {
        let limit = if number == 0 { 1 << 20 } else { 4096 };
        app.configure(|config| config.max_frame = limit)
            .with(overlay)
    };
    let nodes = Nodes::start(2, small).await;
    let topics = nodes.subscribe("a", 0..2).await;
    let error = topics[0].publish(vec![0; 5000]).await.unwrap_err();
    assert!(
        error.is_encode() && error.report().to_string().contains("4096"),
        "{error}"
    );
    topics[0].publish(vec![0; 3000]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn messages_are_sent_by_the_courier_or_are_an_error() {
    let nodes = Nodes::start(2, |_, app, overlay| app.with(overlay).with(Courier::new())).await;
    let mut topics = nodes.subscribe("a", 0..2).await;
    topics[0].send("ping", &7).await.unwrap();
    let frame = timeout(Duration::from_secs(9), topics[1].recv())
        .await
        .unwrap()
        .unwrap();
    let message = frame.message().unwrap();
    assert_eq!((message.kind(), message.body::<u8>().unwrap()), ("ping", 7));
    // What does not parse is no offence of the neighbour that has passed it on.
    for _ in 0..200 {
        topics[0].publish("\u{1}no message").await.unwrap();
    }
    nothing(&mut topics[1]).await;
    assert_eq!(nodes.meshes[1].peers().len(), 1);

    let nodes = Nodes::start(2, |_, app, overlay| app.with(overlay)).await;
    let topics = nodes.subscribe("a", 0..2).await;
    let error = topics[0].send("ping", &7).await.unwrap_err();
    assert!(error.is_no_courier(), "{error}");
    let mesh = App::new().start().await.unwrap();
    assert!(
        mesh.topic("a")
            .unwrap_err()
            .to_string()
            .contains("Overlay::new()")
    );
}

#[tokio::test(start_paused = true)]
async fn topics_of_the_app_are_subscribed_at_the_start_and_stay() {
    let nodes = Nodes::start(2, |_, app, overlay: Overlay| app.with(overlay.topic("a"))).await;
    assert_eq!(nodes.meshes[0].overlay().unwrap().topics, 2);
    let mut topics = nodes.subscribe("a", 0..2).await;
    topics[0].publish("beep").await.unwrap();
    assert_eq!(next(&mut topics[1]).await, b"beep");
    drop(topics);
    assert_eq!(nodes.meshes[0].overlay().unwrap().topics, 2);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_costs_its_own_topic_alone() {
    let nodes = Nodes::start(3, |_, app, overlay| app.with(overlay)).await;
    let mut slow = nodes.subscribe("slow", 0..3).await;
    let mut fast = nodes.subscribe("fast", 0..3).await;
    // The last node has begun to read, and stops.
    slow[0].publish("first").await.unwrap();
    assert_eq!(next(&mut slow[2]).await, b"first");
    let (read, stopped) = (Arc::new(AtomicUsize::new(0)), slow.remove(2));
    let mut reads = slow.remove(1);
    let count = Arc::clone(&read);
    let reading = tokio::spawn(async move {
        while reads.recv().await.is_some() {
            count.fetch_add(1, Relaxed);
        }
    });
    for number in 0..4000_u32 {
        slow[0].publish(vec![0; 1024]).await.unwrap();
        if number % 100 == 0 {
            fast[0]
                .publish(number.to_be_bytes().to_vec())
                .await
                .unwrap();
            for topic in &mut fast[1..] {
                assert_eq!(next(topic).await, number.to_be_bytes());
            }
        }
    }
    until("the others get all", || read.load(Relaxed) == 4001).await;
    assert!(stopped.stats().unread > 100, "{:?}", stopped.stats());
    let lost: u64 = fast
        .iter()
        .map(|topic| topic.stats().unread + topic.stats().dropped)
        .sum();
    assert_eq!(lost, 0);
    assert!(nodes.meshes.iter().all(|mesh| mesh.peers().len() == 2));
    reading.abort();
}

#[tokio::test(start_paused = true)]
async fn who_only_publishes_drops_nothing() {
    let nodes = Nodes::start(2, |_, app, overlay| app.with(overlay)).await;
    let topics = nodes.subscribe("a", 0..2).await;
    for _ in 0..3000 {
        topics[0].publish(vec![0; 1024]).await.unwrap();
    }
    until("all have arrived", || topics[1].stats().received == 3000).await;
    assert_eq!(topics[1].stats().unread, 0);
    assert_eq!(nodes.meshes[1].stats().dropped, 0);
}
