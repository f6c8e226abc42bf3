//! Sends one payload to several neighbours.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use coalescent_core::Peer;
use tokio::time::{Instant, timeout_at};

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

/// A message that waits for room at some neighbours.
#[derive(Debug)]
pub(super) struct Late {
    message: Bytes,
    peers: Vec<Peer>,
}

impl ToSend {
    /// Queues the message for all neighbours that have room. Returns what waits for the others.
    pub(super) fn send(self, state: &State) -> Option<Late> {
        let Self { message, mut peers } = self;
        peers.retain(
            |peer| match peer.try_send_bulk_on(CHANNEL, message.clone()) {
                Ok(()) => {
                    if let Some(Slow(slow)) = peer.get() {
                        slow.store(false, Relaxed);
                    }
                    add(&state.counts.forwarded);
                    false
                }
                Err(error) if error.is_full() => true,
                // It takes no payload of this size, or has left.
                Err(error) => {
                    if !error.is_closed() {
                        lose(state, peer);
                    }
                    false
                }
            },
        );
        (!peers.is_empty()).then_some(Late { message, peers })
    }
}

impl Late {
    /// Returns for how many neighbours it waits.
    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    /// Leaves out those neighbours for which a payload has waited in vain before.
    pub(super) fn without_slow(mut self, state: &State) -> Option<Self> {
        self.peers.retain(|peer| {
            let slow = peer.get().is_some_and(|Slow(slow)| slow.load(Relaxed));
            if slow {
                lose(state, peer);
            }
            !slow
        });
        (!self.peers.is_empty()).then_some(self)
    }

    /// Waits for room, but for a short time only.
    pub(super) async fn wait_briefly(mut self, state: &State) {
        let until = Instant::now() + FORWARD_GRACE;
        while let Some(peer) = self.peers.pop() {
            // Those behind one that has no room are tried once more when the time is over.
            let sent = timeout_at(until, peer.send_bulk_on(CHANNEL, self.message.clone()));
            match sent.await {
                Ok(Ok(())) => add(&state.counts.forwarded),
                Ok(Err(_)) => {}
                Err(_) => {
                    Slow::of(&peer).0.store(true, Relaxed);
                    lose(state, &peer);
                }
            }
        }
    }

    /// Waits for room as long as it takes, or the neighbours stay. Returns how many got it.
    pub(super) async fn wait(mut self, state: &State) -> usize {
        let mut sent = 0;
        while let Some(peer) = self.peers.last() {
            if peer
                .send_bulk_on(CHANNEL, self.message.clone())
                .await
                .is_ok()
            {
                add(&state.counts.forwarded);
                sent += 1;
            }
            self.peers.pop();
        }
        sent
    }
}

fn lose(state: &State, peer: &Peer) {
    add(&state.counts.dropped);
    peer.count_channel_dropped(1);
}
