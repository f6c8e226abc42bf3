//! The memory that the frames of channels take.

use bytes::Bytes;
use coalescent_core::connection::ConnectionInfo;
use coalescent_core::wire::{Hello, Kind};
use coalescent_core::{App, AppExt, Mesh, Peer, Plugin, Registrar};
use support::{ByHand, pour};
use tokio::io::DuplexStream;

use crate::{ALONE, HEAP, KIB};

/// A plugin whose handlers never end.
struct Stuck;

const NAMES: [&str; 4] = ["a/1", "b/1", "c/1", "d/1"];

impl Plugin for Stuck {
    fn register(&self, app: &mut Registrar) {
        for name in NAMES {
            app.channel(name, |_, payload: Bytes| async move {
                std::future::pending::<()>().await;
                drop(payload);
            });
        }
    }
}

async fn join(mesh: &Mesh) -> (DuplexStream, Peer) {
    let (near, far) = tokio::io::duplex(16 * KIB);
    let mut by_hand = ByHand::new(near);
    let hello = Hello::new(by_hand.node, "").channels(NAMES);
    let greet = by_hand.send(Kind::Hello, hello.encode().unwrap());
    let (peer, ()) = tokio::join!(mesh.adopt(far, ConnectionInfo::inbound()), greet);
    by_hand.recv().await.expect("a hello");
    (by_hand.framed.into_inner(), peer.unwrap())
}

#[tokio::test(start_paused = true)]
async fn channels_take_no_more_than_is_published() {
    let _alone = ALONE.lock().await;
    for len in [1, 1000, 100 * KIB] {
        let app = App::new().plugin(Stuck).max_frame(100 * KIB);
        let mesh = app.start().await.unwrap();
        let (mut io, peer) = join(&mesh).await;
        let config = mesh.peers().config();
        let published = config.channels_bytes(NAMES.len());
        // Buffers to read into, which every peer may fill.
        let reading = 4 * 128 * KIB + 2 * 100 * KIB + 64 * KIB;
        let frames = NAMES
            .iter()
            .enumerate()
            .map(|(index, _)| {
                let index = u8::try_from(index).unwrap();
                support::packet(Kind::Channel { index }, vec![0; len])
            })
            .collect::<Vec<_>>();
        let bytes = support::on_the_wire(&frames);
        drop(frames);
        let before = HEAP.current_usage();
        while peer.try_send_on("a/1", vec![0; len]).is_ok() {}
        pour(&mut io, &bytes, 2 * published / len.max(300) + 10).await;
        let grown = HEAP.current_usage().saturating_sub(before);
        assert!(
            grown <= published + reading,
            "{len}: {grown} of {published}"
        );
        assert!(peer.stats().channel_dropped > 0, "{len}");
        drop(io);
        mesh.abort().await;
    }
}
