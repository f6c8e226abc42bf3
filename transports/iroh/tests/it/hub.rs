//! Many nodes around one.

use coalescent::prelude::*;

use crate::support::{app, at, endpoint, soon};

#[tokio::test]
async fn what_one_of_eight_says_the_others_hear_once_through_the_hub() {
    const NODES: usize = 8;
    const MESSAGES: usize = 100;
    let middle = endpoint().await;
    let hub = app(&middle).with(SmartRelay::new()).listen("iroh:");
    let hub = hub.await.expect("a hub");
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        let app = app(&endpoint().await).seeds([at(&middle)]);
        let node = app.start().await.expect("a node");
        soon("the hub", node.connected(1)).await.expect("a mesh");
        let reader = node.reader();
        nodes.push((node, reader));
    }
    soon("all", hub.connected(NODES)).await.expect("a mesh");
    for message in 0..MESSAGES {
        for (number, (node, _)) in nodes.iter().enumerate() {
            let text = format!("{number} {message}");
            let _ = node.broadcast_payload(text).await.expect("a mesh");
        }
    }
    for (number, (_, reader)) in nodes.iter_mut().enumerate() {
        let mut heard = std::collections::BTreeMap::<usize, usize>::new();
        for _ in 0..(NODES - 1) * MESSAGES {
            let frame = soon("a message", reader.next_frame())
                .await
                .expect("a frame");
            let text = String::from_utf8_lossy(frame.payload()).into_owned();
            let (from, message) = text.split_once(' ').expect("two numbers");
            let next = heard.entry(from.parse().expect("a number")).or_default();
            assert_eq!(message.parse(), Ok(*next), "from {from}, in order");
            *next += 1;
        }
        assert!(!heard.contains_key(&number), "nobody hears itself");
        assert!(reader.try_next_frame().is_none());
    }
    let stats = hub.shutdown().await;
    assert_eq!(stats.dropped, 0);
}
