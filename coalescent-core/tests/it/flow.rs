//! Requests and replies in both directions at once, far more than is read ahead or fits an outbox.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use coalescent_core::test_util::{MemoryMesh, Nodes};
use coalescent_core::{App, AppExt, BoxError, DisconnectReason, Frame, Peer, Reply};
use futures_util::future::join_all;
use support::{handle, soon, until};
use tokio::time::Instant;

const KIB: usize = 1024;

/// What is asked to be answered at once, after a while, and only after asking back.
const ECHO: u8 = b'e';
const LATER: u8 = b'l';
const BACK: u8 = b'b';
/// What is asked to be answered with 64 KiB.
const GROW: u8 = b'g';

fn body(kind: u8, len: usize) -> Bytes {
    vec![kind; len].into()
}

async fn answer(frame: Frame) -> Result<Reply, BoxError> {
    let payload = frame.payload();
    let (kind, len) = (payload[0], payload.len());
    match kind {
        LATER => tokio::time::sleep(Duration::from_millis(1)).await,
        BACK => {
            let answer = frame.peer().request_payload(body(LATER, len)).await?;
            assert_eq!(answer.len(), len);
        }
        GROW => return Ok(Reply::Payload(body(GROW, 64 * KIB))),
        _ => {}
    }
    Ok(Reply::Payload(body(kind, len)))
}

/// Two nodes that answer, with limits much smaller than what they are to be asked.
async fn pair() -> (Nodes, [Peer; 2]) {
    pair_with(256 * KIB, |_| {}).await
}

async fn pair_with(
    max_frame: usize,
    change: impl Fn(&mut coalescent_core::Config),
) -> (Nodes, [Peer; 2]) {
    let nodes = MemoryMesh::new(2)
        .start(|_, app: App| {
            app.with(handle(answer)).configure(|config| {
                config.max_frame = max_frame;
                config.outbox = 32 * KIB;
                config.read_ahead = 16 * KIB;
                change(config);
            })
        })
        .await;
    let peers = [nodes.peer(0, 1), nodes.peer(1, 0)];
    (nodes, peers)
}

/// Has both nodes ask each other this often at the same time, and returns how long that took.
async fn ask_both(peers: &[Peer; 2], count: usize, kind: u8, len: usize) -> Duration {
    let start = Instant::now();
    let asked = peers
        .iter()
        .flat_map(|peer| (0..count).map(move |_| peer.request_payload(body(kind, len))));
    for answer in join_all(asked).await {
        let expected = if kind == GROW { 64 * KIB } else { len };
        assert_eq!(answer.unwrap().len(), expected);
    }
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn both_ask_with_more_than_their_limits_hold() {
    for kind in [ECHO, LATER] {
        for len in [1, 300, 5 * KIB, 40 * KIB, 200 * KIB] {
            let (_nodes, peers) = pair().await;
            let elapsed = ask_both(&peers, 400, kind, len).await;
            assert!(elapsed < Duration::from_secs(1), "{len}: {elapsed:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn small_requests_with_large_replies_both_ways() {
    let (_nodes, peers) = pair().await;
    let elapsed = ask_both(&peers, 1000, GROW, 10).await;
    assert!(elapsed < Duration::from_secs(1), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn handlers_of_large_requests_ask_back_both_ways() {
    for (count, len) in [(50, 10), (50, 10 * KIB), (30, 100 * KIB), (8, 256 * KIB)] {
        let (_nodes, peers) = pair().await;
        let elapsed = ask_both(&peers, count, BACK, len).await;
        assert!(elapsed < Duration::from_secs(1), "{len}: {elapsed:?}");
    }
}

/// Has two nodes send each other messages, which `answer` answers, until the connection ends.
/// Returns the reasons of both ends.
async fn flood_both<F>(answer: fn(Frame) -> F) -> [DisconnectReason; 2]
where
    F: Future<Output = Result<Reply, BoxError>> + Send + 'static,
{
    let nodes = MemoryMesh::new(2)
        .start(|_, app: App| {
            app.with(handle(answer)).configure(|config| {
                config.outbox = 32 * KIB;
                config.read_ahead = 16 * KIB;
            })
        })
        .await;
    let (near, far) = (nodes.peer(0, 1), nodes.peer(1, 0));
    let send =
        |peer: Peer| async move { while peer.send_payload(body(ECHO, 10 * KIB)).await.is_ok() {} };
    tokio::join!(send(near.clone()), send(far.clone()));
    [near.closed().await, far.closed().await]
}

#[tokio::test(start_paused = true)]
async fn handlers_of_messages_that_wait_to_answer_end_the_connection_and_it_says_why() {
    let sent = flood_both(|frame| async move {
        let peer = frame.peer().clone();
        peer.send_payload(frame.into_payload()).await?;
        Ok(Reply::None)
    });
    let sent = sent.await;
    let returned = flood_both(|frame| async move { Ok(Reply::Payload(frame.into_payload())) });
    for reasons in [sent, returned.await] {
        let told = reasons.iter().find(|reason| reason.is_slow()).unwrap();
        assert!(matches!(told, DisconnectReason::MutualWait), "{told}");
        assert!(told.to_string().contains("try_send"), "{told}");
    }
}

/// Without handlers that wait for it, a peer that takes nothing is just slow.
#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_is_slow() {
    let nodes = MemoryMesh::new(2)
        .start(|_, app: App| {
            let stuck = handle(|_| std::future::pending());
            app.with(stuck).configure(|config| {
                config.outbox = 32 * KIB;
                config.read_ahead = 16 * KIB;
            })
        })
        .await;
    let near = nodes.peer(0, 1);
    while near.send_payload(body(ECHO, 10 * KIB)).await.is_ok() {}
    let reason = near.closed().await;
    assert!(matches!(reason, DisconnectReason::Slow), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_for_its_turn_is_not_written_and_can_be_dropped() {
    let nodes = MemoryMesh::new(2)
        .start(|_, app: App| app.with(handle(|_| std::future::pending())))
        .await;
    let peer = nodes.peer(0, 1);
    let asked = (0..50).map(|_| peer.request_payload(body(ECHO, 100 * KIB)));
    let mut asked = Box::pin(join_all(asked));
    assert!(futures_util::poll!(&mut asked).is_pending());
    until("the window is sent", || nodes[1].stats().received == 10).await;
    nodes.settled().await;
    assert_eq!(nodes[1].stats().received, 10);
    drop(asked);
    nodes.settled().await;
    assert_eq!(nodes[1].stats().received, 10);
    let again = peer.request_payload(body(ECHO, KIB));
    let error = soon("the time of a request", again).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(nodes[1].stats().received, 11);
}

#[tokio::test(start_paused = true)]
async fn waiting_counts_in_the_time_of_a_request_and_ends_with_the_peer() {
    let nodes = MemoryMesh::new(2)
        .start(|_, app: App| app.with(handle(|_| std::future::pending())))
        .await;
    let peer = nodes.peer(0, 1);
    let start = Instant::now();
    let asked = || (0..20).map(|_| peer.request_payload(body(ECHO, 500 * KIB)));
    for answer in join_all(asked()).await {
        assert!(answer.unwrap_err().is_timeout());
    }
    assert_eq!(start.elapsed(), Duration::from_secs(30));
    let waiting = join_all(asked());
    let end = async {
        until("some are sent", || nodes[1].stats().received > 2).await;
        nodes[1].peers().list()[0].disconnect("enough");
    };
    let (answers, ()) = tokio::join!(waiting, end);
    assert!(answers.iter().all(|answer| {
        let error = answer.as_ref().unwrap_err();
        error.is_closed()
    }));
}

/// Asks back as often as the first byte says, and the node that stands next to the one that asked.
fn asks_on(next: Option<Arc<OnceLock<Peer>>>) -> impl Fn(Frame) -> BoxFuture + Clone {
    move |frame: Frame| {
        let next = next.clone();
        Box::pin(async move {
            let mut payload = frame.payload().to_vec();
            let left = payload[0];
            if left == 0 {
                return Ok(Reply::Payload(payload.into()));
            }
            payload[0] = left - 1;
            let peer = match &next {
                Some(next) => next.get().expect("it is connected").clone(),
                None => frame.peer().clone(),
            };
            let answer = peer.request_payload(payload).await?;
            Ok(Reply::Payload(answer))
        })
    }
}

type BoxFuture = Pin<Box<dyn Future<Output = Result<Reply, BoxError>> + Send>>;

#[tokio::test(start_paused = true)]
async fn more_chains_of_requests_than_there_are_places_do_not_wait_for_each_other() {
    let nodes = MemoryMesh::new(2)
        .start(|_, app: App| app.with(handle(asks_on(None))))
        .await;
    let peers = [nodes.peer(0, 1), nodes.peer(1, 0)];
    let begun = Instant::now();
    for depth in [1, 2, 4] {
        let chains = (0..200).map(|n| peers[n % 2].request_payload(vec![depth; 100]));
        for answer in soon("the chains", join_all(chains)).await {
            assert_eq!(answer.unwrap().len(), 100, "depth {depth}");
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "they waited");
}

#[tokio::test(start_paused = true)]
async fn nodes_in_a_ring_ask_each_other() {
    let nexts: Vec<_> = (0..3).map(|_| Arc::new(OnceLock::new())).collect();
    let nodes = MemoryMesh::new(3)
        .full()
        .start(|node, app: App| app.with(handle(asks_on(Some(Arc::clone(&nexts[node]))))))
        .await;
    for (node, next) in nexts.iter().enumerate() {
        next.set(nodes.peer(node, (node + 1) % 3)).unwrap();
    }
    let begun = Instant::now();
    // Together more than a window holds.
    let asked = (0..48).map(|n| {
        let next = nexts[n % 3].get().unwrap();
        next.request_payload(vec![1; 60 * KIB])
    });
    for answer in soon("the ring", join_all(asked)).await {
        assert_eq!(answer.unwrap().len(), 60 * KIB);
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "they waited");
}
