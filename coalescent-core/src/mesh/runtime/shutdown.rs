//! How a mesh ends.
//!
//! 1. The listener, the dialer and the app's background tasks are dropped
//!    ([`Runtime::stop`](super::Runtime::stop)).
//! 2. All connections stop reading, and hand on what they have read, while the peers that it is for
//!    are still connected.
//! 3. All peers are disconnected, once what is queued for them is written.
//! 4. Connections that have not ended [`MARGIN`] after the node's deadline are cut.
//! 5. The node and the read side end.

use std::sync::Arc;
use std::time::Duration;

use super::Runtime;
use crate::reason::DisconnectReason;
use crate::stack::inbox::Queue;

/// How long connections may take to end beyond the time they have to drain: 2 s.
const MARGIN: Duration = Duration::from_secs(2);

/// Waits until the mesh is told to end, and ends it.
pub(super) async fn supervise(runtime: Arc<Runtime>) {
    let end_node = EndNode(runtime);
    let runtime = &end_node.0;
    runtime.stop.cancelled().await;
    let deadline = runtime.peers.node().deadline();
    tokio::select! {
        () = quiesce(runtime) => {}
        () = runtime.cut.cancelled() => {}
    }
    for peer in runtime.peers.list().iter() {
        peer.stop(&DisconnectReason::Shutdown);
    }
    runtime.tasks.close();
    if tokio::time::timeout_at(deadline + MARGIN, runtime.tasks.wait())
        .await
        .is_err()
    {
        runtime.cut.cancel();
        runtime.tasks.wait().await;
    }
}

/// Makes all connections stop reading, and waits until they have handed on what they have read, for
/// at most half of the time to drain.
async fn quiesce(runtime: &Runtime) {
    let limit = runtime.peers.config().drain / 2;
    let (quiesced, mut all) = tokio::sync::mpsc::channel(1);
    for peer in runtime.peers.list().iter() {
        peer.quiesce(&quiesced);
    }
    drop(quiesced);
    let _ = tokio::time::timeout(limit, all.recv()).await;
}

/// Ends the node when it is dropped.
///
/// This also happens if the tokio runtime is dropped before the mesh has ended. Nothing else would
/// then release the peers that the node still holds, and they hold the node.
struct EndNode(Arc<Runtime>);

impl Drop for EndNode {
    fn drop(&mut self) {
        let node = self.0.peers.node();
        Queue::of(node).end();
        node.end();
        self.0.ended.cancel();
    }
}
