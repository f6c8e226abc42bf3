//! A flood through many nodes in one process that relay each frame once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::BytesMut;
use common::Failed;
use common::mesh::{Mesh, flood, links};
use common::options::Options;

use super::Relay;
use crate::{socket, wire};

/// The nodes, as the flood sees them.
struct Nodes {
    relays: Vec<Arc<Relay>>,
    payload: Vec<u8>,
}

impl Mesh for Nodes {
    async fn publish(&mut self, node: usize, number: u64) -> Result<(), Failed> {
        let mut frame = BytesMut::new();
        let nonce = number.to_be_bytes();
        wire::put(&mut frame, wire::BROADCAST, &nonce, &self.payload);
        self.relays[node].publish(frame.freeze()).await;
        Ok(())
    }

    fn delivered(&self) -> u64 {
        let delivered = |relay: &Arc<Relay>| relay.delivered.load(Relaxed);
        self.relays.iter().map(delivered).sum()
    }
}

/// The role of a mesh.
///
/// # Errors
///
/// Where a message does not reach every node exactly once.
pub async fn mesh(options: &Options) -> Result<(), Failed> {
    let relays: Vec<_> = (0..options.nodes)
        .map(|_| Arc::new(Relay::new(true)))
        .collect();
    let links = links(options);
    for (from, to) in &links {
        let listener = socket::listen()?;
        let addr = listener.local_addr()?.to_string();
        let (there, here) = tokio::join!(listener.accept(), socket::connect(&addr));
        for (mut stream, at) in [(there?.0, to), (here?, from)] {
            let relay = Arc::clone(&relays[*at]);
            tokio::spawn(async move {
                socket::tune(&stream)?;
                let buf = wire::hello(&mut stream).await?;
                let (read, write) = stream.into_split();
                relay.run(read, write, buf).await;
                io::Result::Ok(())
            });
        }
    }
    while relays
        .iter()
        .map(|relay| relay.peers().len())
        .sum::<usize>()
        < 2 * links.len()
    {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let payload = vec![b'x'; options.size];
    flood(options, &mut Nodes { relays, payload }).await
}
