//! Topics of the overlay, with a router: handlers bound to a topic.

use std::time::Duration;

use coalescent::extract::{Body, Topic as In};
use coalescent::transport::Memory;
use coalescent::{
    App, AppExt, Courier, Mesh, MeshExt, MeshOverlayExt, Overlay, Router, SmartRelay, Topic, ends,
};
use tokio::sync::mpsc;
use tokio::time::timeout;

type Heard = mpsc::UnboundedReceiver<String>;

/// Starts a node that says which of its handlers was called with what.
async fn start(network: &Memory, seed: Option<&Mesh>) -> (Mesh, Heard) {
    let (says, heard) = mpsc::unbounded_channel();
    let say = |place: &'static str| {
        let says = says.clone();
        move |topic: Option<In>, Body(number): Body<u32>| {
            let topic = topic.map_or_else(|| "the mesh".to_owned(), |topic| topic.to_string());
            let _ = says.send(format!("{place}: {number} in {topic}"));
            async {}
        }
    };
    let router = Router::new()
        .route("tick", say("mesh tick"))
        .fallback(say("fallback"))
        .topic("prices", Router::new().route("tick", say("prices tick")))
        .topic(
            "news",
            Router::new()
                .route("ended", ends(say("news ended")))
                .fallback(say("news fallback")),
        );
    let mesh = App::new()
        .transport(network.clone())
        .seeds(seed.map(|seed| seed.local_addrs()[0].to_string()))
        .with(Overlay::new())
        .with(SmartRelay::new())
        .with(Courier::new())
        .with(router)
        .listen("node:0")
        .await
        .unwrap();
    (mesh, heard)
}

async fn next(heard: &mut Heard) -> String {
    let next = timeout(Duration::from_secs(60), heard.recv()).await;
    next.expect("a call in time").expect("the node goes on")
}

async fn subscribed(mesh: &Mesh, name: &str) -> Topic {
    let topic = mesh.topic(name).unwrap();
    let connected = timeout(Duration::from_secs(60), topic.connected(1)).await;
    connected.expect("a neighbour in time").unwrap();
    topic
}

#[tokio::test(start_paused = true)]
async fn handlers_are_bound_to_topics() {
    let network = Memory::new();
    let (alice, _) = start(&network, None).await;
    let (bob, mut heard) = start(&network, Some(&alice)).await;
    // The router wants both topics, without a handle at bob.
    assert_eq!(bob.overlay().unwrap().topics, 3);
    let prices = subscribed(&alice, "prices").await;
    prices.send("tick", &1).await.unwrap();
    assert_eq!(next(&mut heard).await, "prices tick: 1 in prices");
    prices.send("tock", &2).await.unwrap();
    assert_eq!(next(&mut heard).await, "fallback: 2 in prices");
    let news = subscribed(&alice, "news").await;
    let mut at_bob = bob.topic("news").unwrap();
    news.send("ended", &3).await.unwrap();
    assert_eq!(next(&mut heard).await, "news ended: 3 in news");
    news.send("tick", &4).await.unwrap();
    assert_eq!(next(&mut heard).await, "news fallback: 4 in news");
    // What does not end at its handler goes on to who reads the topic.
    let frame = timeout(Duration::from_secs(9), at_bob.recv()).await;
    let frame = frame.unwrap().unwrap();
    assert_eq!(frame.message().unwrap().body::<u32>().unwrap(), 4);
    // A topic without routes reaches no handler, and messages of the mesh no topic.
    let others = (subscribed(&alice, "others"), async {
        bob.topic("others").unwrap()
    });
    let (others, mut at_bob) = tokio::join!(others.0, others.1);
    others.send("tick", &5).await.unwrap();
    assert!(
        timeout(Duration::from_secs(9), at_bob.recv())
            .await
            .unwrap()
            .is_some()
    );
    let _ = alice.broadcast("tick", &6).await.unwrap();
    assert_eq!(next(&mut heard).await, "mesh tick: 6 in the mesh");
    assert!(heard.try_recv().is_err());
}
