//! One outbound peer more than is needed, exchanged for another now and then.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coalescent_core::{
    Address, Dial, Direction, Mesh, OneMore, Peer, Source, Suggestion, WeakMesh,
};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::handle::Book;
use super::links::{DialledAs, connected};
use super::scout::choose;

/// How often an outbound peer is exchanged for another: every five minutes, give or take a third.
pub const MIX_EVERY: Duration = Duration::from_secs(300);

/// How many addresses are tried each time, until one answers.
const ATTEMPTS: usize = 4;

/// How long a dial may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the one that leaves is told.
const GOODBYE: &str = "another peer takes this place for a while";

/// Exchanges one outbound peer for another now and then.
///
/// Without it the parts of a network that was split may stay apart: each finds enough peers within
/// itself, and nobody dials across any more.
#[derive(Debug)]
pub(super) struct Mixer {
    book: Book,
    awaited: Mutex<Option<Awaited>>,
}

/// The dial that the mixer waits for.
#[derive(Debug)]
struct Awaited {
    address: Address,
    ended: oneshot::Sender<Option<Peer>>,
}

/// The peer that came last, and the wish for its place.
struct Extra {
    peer: Peer,
    _place: OneMore,
}

impl Mixer {
    pub(super) fn new(book: Book) -> Self {
        Self {
            book,
            awaited: Mutex::new(None),
        }
    }

    fn awaited(&self) -> MutexGuard<'_, Option<Awaited>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of how a dial has ended.
    pub(super) fn dialled(&self, dial: &Dial) {
        let ended = self
            .awaited()
            .take_if(|awaited| awaited.address == *dial.address());
        if let Some(Awaited { ended, .. }) = ended {
            let outbound = |peer: &&Peer| peer.direction() == Direction::Outbound;
            let peer = dial.result().ok().filter(outbound).cloned();
            // Who waited may have given up.
            let _ = ended.send(peer);
        }
    }

    /// Exchanges a peer now and then, until the mesh ends.
    pub(super) async fn keep_mixing(&self, mesh: WeakMesh) {
        let mut extra: Option<Extra> = None;
        loop {
            sleep(MIX_EVERY.mul_f64(rand::random_range(0.67..1.33))).await;
            for _ in 0..ATTEMPTS {
                let Some((suggestion, place)) = self.next(&mesh) else {
                    break;
                };
                let Some(peer) = self.dial(&mesh, suggestion).await else {
                    continue;
                };
                let newcomer = Extra {
                    peer,
                    _place: place,
                };
                if let Some(old) = extra.replace(newcomer) {
                    old.peer.disconnect(GOODBYE);
                }
                break;
            }
            let Some(mesh) = mesh.upgrade() else { return };
            let kept = extra.as_ref().map(|extra| &extra.peer);
            for peer in surplus(&mesh, kept) {
                peer.disconnect(GOODBYE);
            }
        }
    }

    /// Chooses whom to dial, and makes a place. There is nobody if the node has no peers, and may
    /// be offline, or if it may not have one more.
    fn next(&self, mesh: &WeakMesh) -> Option<(Suggestion, OneMore)> {
        let mesh = mesh.upgrade()?;
        let config = mesh.peers().config();
        let may = config.min_peers > 0 && outbound(&mesh).len() < config.max_peers;
        if !may || mesh.peers().is_empty() {
            return None;
        }
        let suggestion = choose(&self.book, &mesh, &connected(&mesh))?;
        Some((suggestion.first(), mesh.one_more()))
    }

    /// Has an address dialled, and returns its peer if it has become an outbound one.
    async fn dial(&self, mesh: &WeakMesh, suggestion: Suggestion) -> Option<Peer> {
        let (ended, result) = oneshot::channel();
        *self.awaited() = Some(Awaited {
            address: suggestion.address().clone(),
            ended,
        });
        mesh.upgrade()?.suggest(suggestion);
        let result = timeout(PATIENCE, result).await;
        self.awaited().take();
        result.ok()?.ok()?
    }
}

fn outbound(mesh: &Mesh) -> Vec<Peer> {
    let peers = mesh.peers().list();
    let outbound = peers
        .iter()
        .filter(|peer| peer.direction() == Direction::Outbound);
    outbound.cloned().collect()
}

/// Returns the outbound peers to let go: while a newcomer failed to answer, its place may have been
/// taken by others. Seeds and the one to be kept stay, and those who came first.
fn surplus(mesh: &Mesh, kept: Option<&Peer>) -> Vec<Peer> {
    let outbound = outbound(mesh);
    let wanted = mesh.peers().config().min_peers.saturating_add(1);
    let count = outbound.len().saturating_sub(wanted);
    let learned = outbound.into_iter().rev().filter(|peer| {
        let learned = |DialledAs(_, source)| source != Source::SEED;
        Some(peer) != kept && peer.get::<DialledAs>().is_some_and(learned)
    });
    learned.take(count).collect()
}
