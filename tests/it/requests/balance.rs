//! Requests that are spread over the peers of a mesh.

use std::collections::BTreeMap;
use std::time::Duration;

use coalescent::test_util::{MemoryMesh, Nodes, Recorder};
use coalescent::{
    AppExt, BoxError, Courier, Error, Mesh, MeshDiscoverExt, Message, Peer, Router, Wire, ends,
};
use futures_util::StreamExt;
use support::join_as;
use tower::balance::p2c::Balance;
use tower::buffer::Buffer;
use tower::discover::Change;
use tower::load::{CompleteOnResponse, PendingRequestsDiscover};
use tower::retry::{Policy, Retry};
use tower::{Service, ServiceExt};

/// How many bytes a connection in memory holds.
const PIPE: usize = 64 * 1024;

type Balanced = Balance<PendingRequestsDiscover<coalescent::PeerDiscover>, Message>;

fn balance(mesh: &Mesh) -> Balanced {
    let discover = mesh.peers().discover();
    Balance::new(PendingRequestsDiscover::new(
        discover,
        CompleteOnResponse::default(),
    ))
}

/// Node 0 in the middle of so many others, which answer with their number after a moment.
async fn workers(number: usize) -> Nodes {
    MemoryMesh::new(number + 1)
        .star()
        .start(|node, app| {
            let router = Router::new()
                .route("who", ends(async move || Message::new("me", &node)))
                .route(
                    "work",
                    ends(async move || {
                        tokio::time::sleep(Duration::from_secs(5)).await;
                        Message::new("me", &node)
                    }),
                );
            app.concurrency(64).with(Courier::new()).with(router)
        })
        .await
}

/// Asks one after another, and counts who answered how often.
async fn tally<S>(service: &mut S, kind: &str, times: usize) -> BTreeMap<usize, usize>
where
    S: Service<Message, Response = Message, Error = BoxError>,
{
    let mut asked = Vec::new();
    for _ in 0..times {
        let ready = service.ready().await.expect("a balancer is ready");
        asked.push(ready.call(Message::new(kind, &())));
    }
    let mut tally = BTreeMap::new();
    for reply in futures_util::future::join_all(asked).await {
        let node: usize = reply.expect("an answer").body().unwrap();
        *tally.entry(node).or_default() += 1;
    }
    tally
}

#[tokio::test(start_paused = true)]
async fn requests_are_spread_by_how_busy_each_peer_is() {
    let nodes = workers(4).await;
    let mut balanced = balance(&nodes[0]);
    let tally = tally(&mut balanced, "work", 40).await;
    assert_eq!(tally.values().sum::<usize>(), 40);
    // The lesser loaded of two at random: none is far from its 10.
    for node in 1..=4 {
        assert!((6..=14).contains(&tally[&node]), "{tally:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_leaves_is_asked_no_more_and_one_that_comes_is() {
    let nodes = workers(3).await;
    let mut balanced = balance(&nodes[0]);
    assert_eq!(tally(&mut balanced, "work", 12).await.len(), 3);

    let leaving = nodes.peer(0, 2);
    nodes[2].abort().await;
    leaving.closed().await;
    let after = tally(&mut balanced, "work", 12).await;
    assert_eq!(after.keys().copied().collect::<Vec<_>>(), [1, 3]);

    // The other side of a connection that ends is enough; and all come back by dialling again.
    nodes.disconnect(3, 0).await;
    let after = tally(&mut balanced, "who", 4).await;
    assert_eq!(after, BTreeMap::from([(1, 4)]));
    nodes.connect(3, 0).await;
    let after = tally(&mut balanced, "work", 12).await;
    assert_eq!(after.keys().copied().collect::<Vec<_>>(), [1, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_leaving_is_passed_over_before_it_is_gone() {
    let nodes = workers(1).await;
    let (_reads_nothing, leaving) = join_as(&nodes[0], PIPE).await;
    let mut balanced = balance(&nodes[0]);
    // Both are ready, and one of them is chosen.
    balanced.ready().await.unwrap();
    assert_eq!(balanced.len(), 2);
    leaving.disconnect("moving");
    while nodes[0].peers().len() > 1 {
        tokio::task::yield_now().await;
    }
    assert!(leaving.is_connected(), "it is still told so");
    let after = tally(&mut balanced, "who", 8).await;
    assert_eq!(after, BTreeMap::from([(1, 8)]));
}

#[tokio::test(start_paused = true)]
async fn without_peers_a_balancer_waits_for_one() {
    let nodes = workers(1).await;
    let mut balanced = balance(&nodes[0]);
    balanced.ready().await.unwrap();
    nodes.disconnect(1, 0).await;
    let ready = tokio::time::timeout(Duration::from_secs(60), balanced.ready());
    assert!(ready.await.is_err());
    let (ready, _) = tokio::join!(balanced.ready(), nodes.connect(1, 0));
    let reply = ready.unwrap().call(Message::new("who", &())).await.unwrap();
    assert_eq!(reply.body::<usize>().unwrap(), 1);
}

/// Asks another when the one that was asked has left.
#[derive(Clone)]
struct FailOver;

impl Policy<Message, Message, BoxError> for FailOver {
    type Future = std::future::Ready<()>;

    fn retry(
        &mut self,
        _: &mut Message,
        result: &mut Result<Message, BoxError>,
    ) -> Option<Self::Future> {
        let error = result.as_ref().err()?.downcast_ref::<Error>()?;
        error.is_closed().then(|| std::future::ready(()))
    }

    fn clone_request(&mut self, message: &Message) -> Option<Message> {
        Some(message.clone())
    }
}

#[tokio::test(start_paused = true)]
async fn with_a_retry_what_was_in_flight_fails_over_too() {
    let nodes = workers(3).await;
    let shared = Buffer::new(balance(&nodes[0]), 16);
    let mut balanced = Retry::new(FailOver, shared);
    let (answers, ()) = tokio::join!(tally(&mut balanced, "work", 12), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let leaving = nodes.peer(0, 2);
        assert!(nodes[2].stats().received > 0, "it had work");
        nodes[2].abort().await;
        leaving.closed().await;
    });
    assert_eq!(answers.keys().copied().collect::<Vec<_>>(), [1, 3]);
    assert_eq!(answers.values().sum::<usize>(), 12);
}

#[tokio::test(start_paused = true)]
async fn only_peers_that_can_be_asked_are_discovered_and_each_stay_is_another() {
    let nodes = workers(1).await;
    let mesh = &nodes[0];
    let (left, _right) = tokio::io::duplex(1024);
    let socket = coalescent::connection::ConnectionInfo::inbound().wire(Wire::lines());
    let on_lines = mesh.adopt(left, socket).await.unwrap();
    assert_eq!(mesh.peers().len(), 2);

    let mut discovered = mesh.discover();
    async fn next(discovered: &mut coalescent::PeerDiscover) -> Change<Peer, Peer> {
        let Some(Ok(change)) = discovered.next().await else {
            panic!("the mesh has ended");
        };
        change
    }
    let first = nodes.peer(0, 1);
    assert!(
        matches!(next(&mut discovered).await, Change::Insert(key, peer)
        if key == first && peer == first && peer != on_lines)
    );
    nodes.disconnect(0, 1).await;
    nodes.connect(1, 0).await;
    assert!(matches!(next(&mut discovered).await, Change::Remove(key) if key == first));
    let again = nodes.peer(0, 1);
    assert_eq!(again.id(), first.id());
    assert_ne!(again, first);
    assert!(matches!(next(&mut discovered).await, Change::Insert(key, _) if key == again));

    mesh.abort().await;
    assert!(matches!(next(&mut discovered).await, Change::Remove(key) if key == again));
    assert!(discovered.next().await.is_none());
    assert!(discovered.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn peers_of_either_side_of_a_connection_are_discovered() {
    let nodes = workers(1).await;
    let _recorder = Recorder::join(&nodes[1]).await;
    let mut discovered = nodes[1].discover();
    for _ in 0..2 {
        assert!(matches!(
            discovered.next().await,
            Some(Ok(Change::Insert(..)))
        ));
    }
}
