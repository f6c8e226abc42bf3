//! Two nodes, one of which answers.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

use coalescent::test_util::{MemoryMesh, Nodes};
use coalescent::{AppExt, Courier, Peer, Router};

/// Starts a node with this router, and another that asks it; returns that one's handle of it.
pub(crate) async fn asked(router: Router) -> (Nodes, Peer) {
    let nodes = MemoryMesh::new(2)
        .start(|node, app| {
            let routes = if node == 1 {
                router.clone()
            } else {
                Router::new()
            };
            app.concurrency(64).with(Courier::new()).with(routes)
        })
        .await;
    let peer = nodes.peer(0, 1);
    (nodes, peer)
}

/// Counts who is inside, and how many were at most.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inside(Arc<(AtomicUsize, AtomicUsize)>);

/// Someone inside, until dropped.
pub(crate) struct Guard(Inside);

impl Inside {
    pub(crate) fn enter(&self) -> Guard {
        let now = self.0.0.fetch_add(1, SeqCst) + 1;
        self.0.1.fetch_max(now, SeqCst);
        Guard(self.clone())
    }

    pub(crate) fn now(&self) -> usize {
        self.0.0.load(SeqCst)
    }

    pub(crate) fn most(&self) -> usize {
        self.0.1.load(SeqCst)
    }

    /// Waits until this many are inside.
    pub(crate) async fn reaches(&self, number: usize) {
        while self.now() != number {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.0.0.fetch_sub(1, SeqCst);
    }
}
