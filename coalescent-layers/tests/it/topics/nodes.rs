//! Nodes with topics.

use std::time::Duration;

use coalescent_core::transport::Memory;
use coalescent_core::{App, Mesh, PeerLayer};
use coalescent_layers::{MeshOverlayExt, Overlay, Topic};
use tokio::time::timeout;

/// The nodes of one network, of which the first is the seed of the others.
pub(crate) struct Nodes {
    pub(crate) meshes: Vec<Mesh>,
}

impl Nodes {
    /// Starts so many nodes with these apps.
    pub(crate) async fn start<L: PeerLayer>(
        count: usize,
        app: impl Fn(usize, App, Overlay) -> App<L>,
    ) -> Self {
        let network = Memory::new();
        let mut meshes: Vec<Mesh> = Vec::new();
        for number in 0..count {
            let seed = meshes
                .first()
                .map(|first| first.local_addrs()[0].to_string());
            let base = App::new().transport(network.clone()).seeds(seed);
            let overlay = Overlay::new().seed(number as u64 + 1);
            let mesh = app(number, base, overlay).listen("node:0").await;
            meshes.push(mesh.unwrap());
        }
        Self { meshes }
    }

    /// Subscribes these nodes to a topic, and waits until each has a neighbour.
    pub(crate) async fn subscribe(
        &self,
        name: &str,
        nodes: impl IntoIterator<Item = usize>,
    ) -> Vec<Topic> {
        let mut topics = Vec::new();
        for node in nodes {
            topics.push(self.meshes[node].topic(name).unwrap());
        }
        for topic in &topics {
            let connected = timeout(Duration::from_secs(120), topic.connected(1)).await;
            assert!(connected.is_ok(), "no neighbour in {name}");
        }
        topics
    }
}

/// Waits for the next payload.
pub(crate) async fn next(topic: &mut Topic) -> Vec<u8> {
    let frame = timeout(Duration::from_secs(30), topic.recv()).await;
    frame
        .expect("a payload in time")
        .expect("the topic goes on")
        .payload()
        .to_vec()
}

/// Lets time pass, and checks that nothing comes.
pub(crate) async fn nothing(topic: &mut Topic) {
    if let Ok(frame) = timeout(Duration::from_secs(20), topic.recv()).await {
        panic!("{:?}", frame.map(|frame| frame.payload().to_vec()));
    }
}
