//! Readers of one peer: its frames go to a queue of its own instead of that of the node.
//!
//! A connection asks once for each block of frames whether there is such a reader, and only if some
//! peer of the node has one.

use std::sync::Arc;

use super::queue::Queue;
use crate::node::peer::Peer;

/// The queue of a peer, among the values that are kept with it. It is used while it has a reader.
#[derive(Clone)]
struct PeerSide(Arc<Queue>);

/// Has the frames of one peer kept for its readers, until it is dropped.
pub(crate) struct Diversion {
    node: Arc<Queue>,
}

impl Diversion {
    /// Diverts the frames of a peer. Returns its queue too, which must be opened before the
    /// diversion is dropped.
    pub(crate) fn of(peer: &Peer) -> (Self, Arc<Queue>) {
        let node = Queue::of(peer.node());
        // Under the lock, so that it is made once.
        let state = node.state();
        let PeerSide(queue) = peer.get().unwrap_or_else(|| {
            let side = PeerSide(Arc::new(Queue::new(node.limit())));
            peer.set(side.clone());
            side
        });
        drop(state);
        node.divert();
        (Self { node }, queue)
    }
}

impl Drop for Diversion {
    fn drop(&mut self) {
        self.node.undivert();
    }
}

impl Queue {
    /// Returns the queue that the frames of a peer of this node go to, if it is another.
    #[inline]
    pub(crate) fn diverted_for(&self, peer: &Peer) -> Option<Arc<Queue>> {
        if !self.is_diverted() {
            return None;
        }
        let PeerSide(queue) = peer.get()?;
        queue.is_read().then_some(queue)
    }
}
