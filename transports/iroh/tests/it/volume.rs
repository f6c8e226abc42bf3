//! Much, in order, and nothing lost.

use coalescent::Wire;

use crate::support::{app, at, endpoint, listening, soon};

const FRAMES: u64 = 200_000;
const SIZE: usize = 1024;
const BATCH: u64 = 64;

fn payload(number: u64) -> Vec<u8> {
    let mut payload = vec![number as u8; SIZE];
    payload[..8].copy_from_slice(&number.to_be_bytes());
    payload
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_thousand_frames_of_a_kibibyte_come_in_order() {
    let (there, here) = (endpoint().await, endpoint().await);
    let alice = listening(app(&there)).await;
    let mut heard = alice.reader();
    let bob = app(&here).start().await.expect("a node");
    bob.connect(&at(&there)).await.expect("a peer");
    let sender = bob.clone();
    let sending = tokio::spawn(async move {
        for first in (0..FRAMES).step_by(BATCH as usize) {
            let batch = (first..FRAMES.min(first + BATCH)).map(payload);
            let _ = sender.broadcast_payloads(batch).await.expect("a mesh");
        }
    });
    let mut next = 0;
    while next < FRAMES {
        let frames = soon("frames", heard.next_frames()).await.expect("a mesh");
        for frame in frames {
            assert!(frame.payload()[..] == payload(next)[..], "frame {next}");
            next += 1;
        }
    }
    soon("the sender", sending).await.expect("a sender");
    let sent = bob.shutdown().await;
    let got = alice.shutdown().await;
    assert_eq!((sent.sent, sent.dropped), (FRAMES, 0));
    assert_eq!((got.received, got.dropped), (FRAMES, 0));
}

/// On this wire the side that listens may be the first to say something.
#[tokio::test]
async fn the_other_side_may_speak_first() {
    let (there, here) = (endpoint().await, endpoint().await);
    let alice = listening(app(&there).wire(Wire::lines())).await;
    let bob = app(&here)
        .wire(Wire::lines())
        .start()
        .await
        .expect("a node");
    let mut heard = bob.reader();
    bob.connect(&at(&there)).await.expect("a peer");
    soon("alice has a peer", alice.connected(1))
        .await
        .expect("a mesh");
    let _ = alice.broadcast_payload("first").await.expect("a mesh");
    let frame = soon("the line", heard.next_frame()).await.expect("a frame");
    assert_eq!(frame.payload(), b"first");
}
