//! Requests whose handlers wait.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

use coalescent_core::wire::{Kind, Packet};
use coalescent_core::{App, AppExt, BoxError, Frame, Reply};
use support::{handle, join, on_the_wire, packet, pour, until};
use tokio::sync::watch;

use crate::{ALONE, HEAP, KIB, MIB};

const PIPE: usize = 256 * KIB;

/// How many requests are handled at a time.
const HANDLED: usize = 64;

fn request(id: u32, len: usize) -> Packet {
    packet(Kind::Request { id }, vec![1; len])
}

#[tokio::test(start_paused = true)]
async fn bodies_of_withdrawn_requests_do_not_stay() {
    let _alone = ALONE.lock().await;
    let stack = handle(|_: Frame| pending::<Result<Reply, BoxError>>());
    let mesh = App::new().with(stack).start().await.unwrap();
    let mut peer = join(&mesh, PIPE).await;
    let before = HEAP.current_usage();
    let busy: Vec<_> = (0..64).map(|id| request(1_000_000 + id, 0)).collect();
    pour(peer.framed.get_mut(), &on_the_wire(&busy), 1).await;
    for round in 0..2_000 {
        let (large, small) = (2 * round, 2 * round + 1);
        let withdrawn = packet(Kind::Cancel { id: large }, "");
        let round = [request(large, 100 * KIB), request(small, 0), withdrawn];
        if pour(peer.framed.get_mut(), &on_the_wire(&round), 1).await < 1 {
            break;
        }
        let held = HEAP.current_usage().saturating_sub(before);
        let bound = mesh.peers().config().peer_bytes();
        assert!(held <= bound, "{held} bytes, the bound is {bound}");
    }
}

#[tokio::test(start_paused = true)]
async fn replies_that_come_together_are_handed_on_as_they_come() {
    let _alone = ALONE.lock().await;
    let (go, wait) = watch::channel(false);
    let begun = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&begun);
    let stack = handle(move |_: Frame| {
        let (mut wait, count) = (wait.clone(), Arc::clone(&count));
        async move {
            count.fetch_add(1, SeqCst);
            wait.wait_for(|go| *go).await?;
            Ok::<_, BoxError>(Reply::Payload(vec![0; MIB].into()))
        }
    });
    let mesh = App::new().with(stack).start().await.unwrap();
    let mut peer = join(&mesh, PIPE).await;
    let requests: Vec<_> = (0..200).map(|id| request(id, 0)).collect();
    let before = HEAP.current_usage();
    pour(peer.framed.get_mut(), &on_the_wire(&requests), 1).await;
    until("as many as there are places", || {
        begun.load(SeqCst) == HANDLED
    })
    .await;
    HEAP.reset_peak_usage();
    go.send(true).unwrap();
    let mut replies = 0;
    while replies < 200 {
        let received = peer.recv().await.expect("the connection stays");
        replies += usize::from(matches!(received.kind, Kind::Reply { .. }));
    }
    let held = HEAP.peak_usage().saturating_sub(before);
    let bound = mesh.peers().config().peer_bytes();
    assert!(held <= bound, "{held} bytes, the bound is {bound}");
}
