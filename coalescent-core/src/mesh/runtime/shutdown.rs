//! How a mesh ends.
//!
//! 1. The listener, the dialer and the app's background tasks are dropped
//!    ([`Runtime::stop`](super::Runtime::stop)).
//! 2. The plugins' hooks for the shutdown run.
//! 3. All connections stop reading, and hand on what they have read, while the peers that it is for
//!    are still connected.
//! 4. All peers are disconnected, once what is queued for them is written.
//! 5. Connections that have not ended [`MARGIN`] after the node's deadline are cut.
//! 6. The node and the read side end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::Runtime;
use crate::error::Error;
use crate::mesh::Mesh;
use crate::node::hooks::BoxFuture;
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
    let prepare = async {
        run_hooks(runtime).await;
        quiesce(runtime, deadline).await;
    };
    tokio::select! {
        () = prepare => {}
        () = runtime.peers.node().cut().cancelled() => {}
    }
    for peer in runtime.peers.node().everyone() {
        peer.stop(&DisconnectReason::Shutdown);
    }
    runtime.tasks().close();
    if tokio::time::timeout_at(deadline + MARGIN, runtime.tasks().wait())
        .await
        .is_err()
    {
        runtime.peers.node().cut().cancel();
        runtime.tasks().wait().await;
    }
}

/// Runs the hooks for the shutdown, all at the same time, for at most half of the time to drain.
async fn run_hooks(runtime: &Arc<Runtime>) {
    let hooks = std::mem::take(
        &mut *runtime
            .on_shutdown
            .lock()
            .unwrap_or_else(PoisonError::into_inner),
    );
    if hooks.is_empty() {
        return;
    }
    let node = runtime.peers.node();
    let mut running: Vec<_> = hooks
        .into_iter()
        .map(|hook| {
            let mesh = Mesh::new(Arc::clone(runtime));
            // The hook itself is called in the first poll, which may panic too.
            let run: BoxFuture = Box::pin(async move { hook(mesh).await });
            run
        })
        .collect();
    let all = std::future::poll_fn(|cx| {
        running.retain_mut(|hook| {
            match catch_unwind(AssertUnwindSafe(|| hook.as_mut().poll(cx))) {
                Ok(polled) => polled.is_pending(),
                Err(panic) => {
                    node.error(None, Error::hook(&*panic));
                    false
                }
            }
        });
        if running.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    });
    let limit = runtime.peers.config().drain / 2;
    let _ = tokio::time::timeout(limit, all).await;
}

/// Makes all connections stop reading, and waits until they have handed on what they have read, for
/// at most half of the time that is left to drain.
async fn quiesce(runtime: &Runtime, deadline: Instant) {
    let limit = deadline.saturating_duration_since(Instant::now()) / 2;
    let (quiesced, mut all) = tokio::sync::mpsc::channel(1);
    for peer in runtime.peers.node().everyone() {
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
