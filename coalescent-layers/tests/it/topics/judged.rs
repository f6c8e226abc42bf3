//! Payloads that a layer judges before they are passed on.

use std::time::Duration;

use coalescent_core::{AppExt, Frame, TopicName, Verdict};
use coalescent_layers::Validate;
use support::until;
use tokio::time::sleep;

use super::nodes::{Nodes, next, nothing};

/// Says what it thinks of a payload by its first byte.
fn verdict(frame: &Frame) -> Verdict {
    assert_eq!(frame.extensions().get(), Some(&TopicName::from("a")));
    match frame.payload().first() {
        Some(b'+') => Verdict::Accept,
        Some(b'-') => Verdict::reject(),
        _ => Verdict::Ignore,
    }
}

/// Nodes in which the first accepts all, and is the only neighbour of each other one.
async fn line(wait: bool) -> Nodes {
    Nodes::start(2, move |_, app, overlay| {
        app.with(overlay)
            .with(Validate::new(move |frame: Frame| async move {
                if wait {
                    sleep(Duration::from_millis(300)).await;
                }
                verdict(&frame)
            }))
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn what_is_not_accepted_is_neither_passed_on_nor_read() {
    for tree in [false, true] {
        let nodes = Nodes::start(8, move |number, app, overlay| {
            let overlay = if tree {
                overlay.tree("a")
            } else {
                overlay.topic("a")
            };
            // The author judges nothing of its own.
            let check = move |frame: Frame| async move {
                sleep(Duration::from_millis(number as u64)).await;
                verdict(&frame)
            };
            app.with(overlay).with(Validate::new(check))
        })
        .await;
        let mut topics = nodes.subscribe("a", 0..8).await;
        let ignored = topics[0].publish("?ignored").await.unwrap();
        let rejected = topics[0].publish("-rejected").await.unwrap();
        topics[0].publish("+accepted").await.unwrap();
        for topic in &mut topics[1..] {
            assert_eq!(next(topic).await, b"+accepted");
            nothing(topic).await;
            let stats = topic.stats();
            // Its neighbour has sent it, if that is the author.
            assert!(stats.withheld <= 2 && stats.received <= 3, "{stats:?}");
        }
        let received: u64 = topics.iter().map(|topic| topic.stats().received).sum();
        // Only the author's neighbours have got what is not accepted.
        let most = 7 + ignored + rejected;
        assert!(received <= most as u64, "{received} of at most {most}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_sends_what_is_rejected_pays_for_it() {
    let nodes = line(true).await;
    let topics = nodes.subscribe("a", 0..2).await;
    for _ in 0..5 {
        topics[0].publish("-rejected").await.unwrap();
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(topics[0].neighbours().len(), 1);
    for _ in 0..5 {
        topics[0].publish("-rejected").await.unwrap();
    }
    until("it is cut", || topics[1].neighbours().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn without_a_judge_a_payload_is_passed_on_at_once() {
    let nodes = Nodes::start(8, |_, app, overlay| {
        app.with(overlay)
            .layer(tower::util::MapRequestLayer::new(|frame: Frame| frame))
    })
    .await;
    let mut topics = nodes.subscribe("a", 0..8).await;
    topics[3].publish("?").await.unwrap();
    for (number, topic) in topics.iter_mut().enumerate() {
        if number != 3 {
            assert_eq!(next(topic).await, b"?");
        }
    }
    // But not if the overlay is told that one is there.
    let nodes = Nodes::start(2, |_, app, overlay| app.with(overlay.validated())).await;
    let mut topics = nodes.subscribe("a", 0..2).await;
    topics[0].publish("?").await.unwrap();
    assert_eq!(next(&mut topics[1]).await, b"?");
    assert_eq!(topics[1].stats().withheld, 1);
}
