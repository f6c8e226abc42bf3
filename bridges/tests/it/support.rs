//! Meshes for tests.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use coalescent::transport::Memory;
use coalescent::{App, AppExt, Mesh, MeshReader, Plugin, SmartRelay};

/// How long a condition may take to come true. Far more than it does.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A node with its read side.
pub(crate) struct Node {
    pub(crate) mesh: Mesh,
    reader: MeshReader,
}

impl Node {
    /// Starts a node that listens as `addr` and dials `seeds`.
    pub(crate) async fn start(
        network: &Memory,
        addr: &str,
        seeds: &[&str],
        plugin: impl Plugin,
    ) -> Self {
        let mesh = App::new()
            .transport(network.clone())
            .network("test")
            .seeds(seeds)
            .with(SmartRelay::new())
            .plugin(plugin)
            .listen(addr)
            .await
            .unwrap();
        let reader = mesh.reader();
        Self { mesh, reader }
    }

    pub(crate) async fn say(&self, text: impl Into<String>) {
        let _ = self.mesh.broadcast_payload(text.into()).await.unwrap();
    }

    /// Waits for so many frames, and returns how often each came.
    pub(crate) async fn heard(&mut self, frames: usize) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        let all = async {
            for _ in 0..frames {
                let frame = self.reader.next_frame().await.unwrap();
                count(&mut counts, &frame.payload_bytes());
            }
        };
        if tokio::time::timeout(LIMIT, all).await.is_err() {
            panic!("fewer than {frames} frames: {counts:?}");
        }
        counts
    }

    /// Returns what else has come, and how often.
    pub(crate) fn rest(&mut self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        while let Some(frame) = self.reader.try_next_frame() {
            count(&mut counts, &frame.payload_bytes());
        }
        counts
    }
}

pub(crate) fn count(counts: &mut BTreeMap<String, usize>, payload: &Bytes) {
    let text = String::from_utf8_lossy(payload).into_owned();
    *counts.entry(text).or_default() += 1;
}

/// Returns that each of `texts` came once.
pub(crate) fn once<T: ToString>(texts: impl IntoIterator<Item = T>) -> BTreeMap<String, usize> {
    texts
        .into_iter()
        .map(|text| (text.to_string(), 1))
        .collect()
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let all = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(
        tokio::time::timeout(LIMIT, all).await.is_ok(),
        "never: {what}"
    );
}
