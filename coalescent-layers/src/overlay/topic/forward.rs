//! Sends one payload to several neighbours.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use coalescent_core::Peer;
use tokio::time::{Instant, timeout_at};

use super::payload::announcement;
use super::state::{State, add};
use crate::overlay::mirror::CHANNEL;

/// How long a payload that is passed on waits at most for room at a neighbour: 200 ms. Then it is
/// dropped for that neighbour alone.
pub const FORWARD_GRACE: Duration = Duration::from_millis(200);

/// With each peer: whether a payload has waited for it in vain, and none has found room since. Then
/// none waits for it.
#[derive(Clone, Default)]
struct Slow(Arc<AtomicBool>);

impl Slow {
    fn of(peer: &Peer) -> Self {
        peer.get().unwrap_or_else(|| {
            let slow = Self::default();
            peer.set(slow.clone());
            slow
        })
    }
}

/// A message, and the neighbours that it is to be sent to.
#[derive(Debug, Default)]
pub(crate) struct ToSend {
    pub(crate) message: Bytes,
    pub(crate) peers: Vec<Peer>,
}

/// A message that waits for room at some neighbours. Those that are left when it is dropped do not
/// get it.
#[derive(Debug)]
pub(super) struct Late {
    state: Arc<State>,
    message: Bytes,
    peers: Vec<Peer>,
}

impl ToSend {
    /// Queues the message for all neighbours that have room. Returns what waits for the others.
    pub(super) fn send(self, state: &Arc<State>) -> Option<Late> {
        let Self { message, mut peers } = self;
        peers.retain(|peer| {
            let sent = peer.try_send_bulk_on(CHANNEL, message.clone());
            match sent {
                Ok(()) => {
                    if let Some(Slow(slow)) = peer.get() {
                        slow.store(false, Relaxed);
                    }
                    add(&state.counts.forwarded);
                }
                Err(error) if error.is_full() => return true,
                Err(error) if error.is_closed() => {}
                // It takes no payload of this size.
                Err(_) => {
                    add(&state.counts.dropped);
                    peer.count_channel_dropped(1);
                }
            }
            false
        });
        let state = Arc::clone(state);
        (!peers.is_empty()).then_some(Late {
            state,
            message,
            peers,
        })
    }
}

impl Late {
    /// Returns for how many neighbours it waits.
    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    /// Leaves out those neighbours for which a payload has waited in vain before.
    pub(super) fn without_slow(mut self) -> Option<Self> {
        let is_slow = |peer: &mut Peer| peer.get().is_some_and(|Slow(slow)| slow.load(Relaxed));
        let slow: Vec<_> = self.peers.extract_if(.., is_slow).collect();
        slow.iter().for_each(|peer| self.lose(peer));
        (!self.peers.is_empty()).then_some(self)
    }

    /// Waits for room, but for a short time only.
    pub(super) async fn wait_briefly(mut self) {
        let until = Instant::now() + FORWARD_GRACE;
        while let Some(peer) = self.peers.last() {
            // Those behind one that has no room are tried once more when the time is over.
            let sent = timeout_at(until, peer.send_bulk_on(CHANNEL, self.message.clone()));
            match sent.await {
                Ok(Ok(())) => add(&self.state.counts.forwarded),
                Ok(Err(_)) => {}
                Err(_) => {
                    Slow::of(peer).0.store(true, Relaxed);
                    self.lose(peer);
                }
            }
            self.peers.pop();
        }
    }

    /// Waits for room as long as it takes, or the neighbours stay. Returns how many got it.
    pub(super) async fn wait(mut self) -> usize {
        let mut count = 0;
        while let Some(peer) = self.peers.last() {
            let sent = peer.send_bulk_on(CHANNEL, self.message.clone());
            if sent.await.is_ok() {
                add(&self.state.counts.forwarded);
                count += 1;
            }
            self.peers.pop();
        }
        count
    }

    /// Notes that a neighbour does not get the message for want of room. In a tree it is told that
    /// there is one.
    fn lose(&self, peer: &Peer) {
        add(&self.state.counts.dropped);
        if self.state.tree {
            tell_of(peer, &self.message);
        }
        peer.count_channel_dropped(1);
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        let left = std::mem::take(&mut self.peers);
        left.iter()
            .filter(|peer| peer.is_connected())
            .for_each(|peer| self.lose(peer));
    }
}

/// Tells a neighbour of a payload that it was not sent.
fn tell_of(peer: &Peer, message: &[u8]) {
    if let Some(announced) = announcement(message) {
        let _ = peer.try_send_on(CHANNEL, announced);
    }
}
