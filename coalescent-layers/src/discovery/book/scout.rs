//! Whom to dial, and who is asked whether he is there.

use std::time::Duration;

use coalescent_core::{Address, Mesh, Source, Suggestion, WeakMesh};
use tokio::time::{sleep, timeout};

use super::handle::Book;
use super::links::connected;

/// How often an address is dialled only to learn whether somebody is there: every two minutes, give
/// or take a half.
pub const FEELER_EVERY: Duration = Duration::from_secs(120);

/// How often addresses are suggested while too few are known to be good: every 5 seconds.
const SUGGEST_EVERY: Duration = Duration::from_secs(5);

/// How many addresses are suggested at once.
const MAX_SUGGESTED: usize = 16;

/// Suggests addresses while the mesh wants some, until it ends.
pub(super) async fn keep_suggesting(book: Book, mesh: WeakMesh) {
    let Some(mut wanted) = mesh.upgrade().map(|mesh| mesh.wanted()) else {
        return;
    };
    loop {
        let count = wanted.now();
        if count == 0 {
            if wanted.changed().await.is_none() {
                return;
            }
            continue;
        }
        let Some(mesh) = mesh.upgrade() else { return };
        suggest(&book, &mesh, count.min(MAX_SUGGESTED));
        drop(mesh);
        let news = async {
            tokio::select! {
                changed = wanted.changed() => changed.is_some(),
                () = book.grown() => true,
            }
        };
        if let Ok(false) = timeout(SUGGEST_EVERY, news).await {
            return;
        }
    }
}

fn suggest(book: &Book, mesh: &Mesh, count: usize) {
    let mut known = connected(mesh);
    for _ in 0..count {
        let Some(suggestion) = choose(book, mesh, &known) else {
            return;
        };
        known.push(suggestion.address().clone().with_id(None));
        mesh.suggest(suggestion);
    }
}

/// Chooses an address to dial that is none of those that are `known` already. What this node may
/// not dial is passed over, and kept for the day when its configuration allows it.
pub(super) fn choose(book: &Book, mesh: &Mesh, known: &[Address]) -> Option<Suggestion> {
    let (address, is_remembered) = book.update(|table, now| {
        let is_wanted = |address: &Address| !has(known, address) && mesh.may_dial(address);
        let picked = table.pick(now, is_wanted)?;
        let is_remembered = table.is_remembered(&picked);
        Some((picked, is_remembered))
    })?;
    let source = if is_remembered {
        Source::BOOK
    } else {
        Source::PEERS
    };
    Some(Suggestion::new(address, source))
}

fn has(known: &[Address], address: &Address) -> bool {
    let is_it = |known: &Address| {
        known.host() == address.host()
            && known.port() == address.port()
            && known.scheme() == address.scheme()
    };
    known.iter().any(is_it)
}

/// Dials an address now and then, only to learn whether somebody is there, until the mesh ends; not
/// if it is to dial nobody.
pub(super) async fn keep_feeling(book: Book, mesh: WeakMesh) {
    let dials = |mesh: Mesh| mesh.peers().config().max_peers > 0;
    if !mesh.upgrade().is_some_and(dials) {
        return;
    }
    loop {
        sleep(FEELER_EVERY.mul_f64(rand::random_range(0.5..1.5))).await;
        let Some(mesh) = mesh.upgrade() else { return };
        feel(&book, &mesh).await;
    }
}

async fn feel(book: &Book, mesh: &Mesh) {
    if mesh.peers().is_empty() {
        // Perhaps this node is offline: then a failure would say nothing.
        return;
    }
    let may = |address: &Address| mesh.may_dial(address);
    let Some(address) = book.update(|table, now| table.feeler(now, may)) else {
        return;
    };
    if has(&connected(mesh), &address) {
        book.update(|table, now| table.dialled_ok(&address, now));
        return;
    }
    let probed = mesh.probe(&address).await;
    book.update(|table, now| match probed {
        Ok(probe) => table.dialled_ok(&address.with_id(probe.key()), now),
        Err(error) if error.is_itself() => table.remove(&address),
        Err(error) if error.is_busy() || error.is_banned() => table.dialled_busy(&address, now),
        Err(_) => table.dial_failed(&address, now),
    });
}
