//! Many nodes in one process, each with a smart relay.

use std::time::Duration;

use bytes::Bytes;
use coalescent::Mesh;
use coalescent::prelude::*;
use common::options::Options;
use common::{Failed, mesh as common_mesh};

use crate::hub::app;

/// The nodes, as the flood sees them.
struct Nodes {
    meshes: Vec<Mesh>,
    payload: Bytes,
}

impl common_mesh::Mesh for Nodes {
    async fn publish(&mut self, node: usize, _: u64) -> Result<(), Failed> {
        let payload = self.payload.clone();
        let _ = self.meshes[node].broadcast_payload(payload).await?;
        Ok(())
    }

    fn delivered(&self) -> u64 {
        self.meshes.iter().map(|mesh| mesh.stats().delivered).sum()
    }
}

pub(crate) async fn mesh(options: &Options) -> Result<(), Failed> {
    let mut meshes: Vec<Mesh> = Vec::new();
    for _ in 0..options.nodes {
        let app = app(options).with(SmartRelay::new());
        meshes.push(app.listen("127.0.0.1:0").await?);
    }
    let links = common_mesh::links(options);
    for (from, to) in &links {
        let addr = meshes[*to].local_addrs()[0].to_string();
        meshes[*from].connect(&addr).await?;
    }
    while meshes.iter().map(|mesh| mesh.peers().len()).sum::<usize>() < 2 * links.len() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let payload = vec![b'x'; options.size].into();
    common_mesh::flood(options, &mut Nodes { meshes, payload }).await
}
