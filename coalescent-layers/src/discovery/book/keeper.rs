//! When the file is read and written.

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coalescent_core::{Error, Mesh, Source, Suggestion, WeakMesh, report};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use super::bans::SavedBan;
use super::disk;
use super::error::BookError;
use super::handle::Book;
use super::links::anchors;

/// How often a book that changes is saved: once a minute, once it has been saved a few times.
pub const SAVE_EVERY: Duration = Duration::from_secs(60);

/// How long a change waits for others that come with it, before the book is saved: one second. So
/// long is also the pause after the first save, at which a node often knows nobody but its seed.
/// Each further pause is twice as long, up to [`SAVE_EVERY`].
pub const SAVE_SOON: Duration = Duration::from_secs(1);

/// Keeps a book in its file.
#[derive(Debug)]
pub(super) struct Keeper {
    book: Book,
    path: PathBuf,
    /// Unset if the file may hold a book that could not be read.
    may_save: AtomicBool,
    file: Arc<Written>,
    /// The last error that was reported, so that it is said once.
    said: Mutex<Option<String>>,
}

/// What is in the file.
#[derive(Debug, Default)]
struct Written {
    /// The number of changes of the book that is there.
    changes: AtomicU64,
    /// Locked while the file is written, so that of two writes the later one stays. Only threads
    /// that may block wait for it.
    writing: Mutex<()>,
}

impl Keeper {
    pub(super) fn new(book: Book, path: PathBuf) -> Self {
        Self {
            book,
            path,
            may_save: AtomicBool::new(true),
            file: Arc::default(),
            said: Mutex::default(),
        }
    }

    /// Reads the file, and suggests those who were connected last.
    pub(super) async fn load(&self, mesh: &Mesh) {
        let path = self.path.clone();
        let loaded = spawn_blocking(move || disk::load(&path, rand::random())).await;
        match loaded {
            Ok(Ok(Some(loaded))) => {
                let (changes, bans) = self.book.update(|table, now| {
                    let bans = loaded.bans().iter().map(|ban| ban.ban(now));
                    let bans: Vec<_> = bans.collect();
                    let is_news = !table.is_empty();
                    table.replace_by(loaded);
                    (table.changes().wrapping_sub(u64::from(is_news)), bans)
                });
                self.file.changes.store(changes, Relaxed);
                let (known, anchors) = self
                    .book
                    .update(|table, _| (table.len(), table.anchors().to_vec()));
                // Before anybody is let in or dialled.
                mesh.restore_bans(bans);
                tracing::debug!(path = %self.path.display(), known, "the address book was read");
                for anchor in anchors {
                    mesh.suggest(Suggestion::new(anchor, Source::BOOK).first());
                }
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => {
                self.may_save.store(error.is_replaceable(), Relaxed);
                self.report(mesh, &error);
            }
            // The runtime ends.
            Err(_) => {}
        }
    }

    /// Writes the file, unless what it holds is as new.
    pub(super) async fn save(&self, mesh: &Mesh) {
        if !self.may_save.load(Relaxed) {
            return;
        }
        self.note_bans(mesh);
        let anchors = anchors(mesh);
        let (bytes, changes) = self.book.update(|table, _| {
            // Who is alone now would like to be connected to the same again.
            if !anchors.is_empty() {
                table.set_anchors(anchors);
            }
            (table.encode(), table.changes())
        });
        let (path, file) = (self.path.clone(), Arc::clone(&self.file));
        let saved = spawn_blocking(move || {
            let _writing = lock(&file.writing);
            if file.changes.load(Relaxed) >= changes {
                return Ok(());
            }
            disk::save(&path, &bytes).inspect(|()| file.changes.store(changes, Relaxed))
        });
        match saved.await {
            Ok(Ok(())) => *lock(&self.said) = None,
            Ok(Err(error)) => self.report(mesh, &error),
            // The runtime ends.
            Err(_) => {}
        }
    }

    /// Writes the file when it is time, until the mesh ends.
    pub(super) async fn keep_saving(&self, mesh: WeakMesh) {
        let start = Instant::now();
        let (mut last, mut changed) = (None, None);
        loop {
            match mesh.upgrade() {
                Some(mesh) => self.note_bans(&mesh),
                None => return,
            }
            let written = self.file.changes.load(Relaxed);
            let (is_changed, is_peer_known) = self.book.update(|table, now| {
                (
                    table.changes() != written,
                    table.tellable(now).next().is_some(),
                )
            });
            let now = Instant::now();
            if !self.may_save.load(Relaxed) {
                self.book.changed().await;
                continue;
            }
            if !is_changed {
                // Nobody tells of a ban, so this looks now and then.
                let _ = timeout_at(now + SAVE_EVERY, self.book.changed()).await;
                continue;
            }
            let due = match last {
                None => first_due(start, is_peer_known),
                Some(last) => due(last, *changed.get_or_insert(now)),
            };
            if due > now {
                let _ = timeout_at(due, self.book.changed()).await;
                continue;
            }
            let Some(mesh) = mesh.upgrade() else { return };
            changed = None;
            last = Some(Saved {
                at: now,
                before: last.map_or(0, |last: Saved| last.before.saturating_add(1)),
            });
            self.save(&mesh).await;
        }
    }

    /// Takes note of who is banned now.
    fn note_bans(&self, mesh: &Mesh) {
        let bans = mesh.bans();
        self.book.update(|table, now| {
            table.set_bans(bans.iter().map(|ban| SavedBan::new(ban, now)));
        });
    }

    fn report(&self, mesh: &Mesh, error: &BookError) {
        let text = report(error).to_string();
        let mut said = lock(&self.said);
        if said.as_ref() != Some(&text) {
            mesh.peers().report(Error::plugin(text.clone()));
            *said = Some(text);
        }
    }
}

/// The last save.
#[derive(Clone, Copy, Debug)]
struct Saved {
    at: Instant,
    /// How many there were before it.
    before: u32,
}

/// Returns when a book that has changed is to be saved for the first time: at once if it has a
/// peer.
fn first_due(start: Instant, is_peer_known: bool) -> Instant {
    if is_peer_known {
        start
    } else {
        start + SAVE_EVERY
    }
}

/// Returns when a book is to be saved again that has first changed at `changed` since it was saved.
fn due(last: Saved, changed: Instant) -> Instant {
    let doubled = 2_u32.saturating_pow(last.before);
    let pause = SAVE_SOON.saturating_mul(doubled).min(SAVE_EVERY);
    (last.at + pause).max(changed + SAVE_SOON)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_peer_is_saved_at_once() {
        let start = Instant::now();
        assert_eq!(first_due(start, false), start + SAVE_EVERY);
        assert_eq!(first_due(start, true), start);
    }

    #[test]
    fn what_the_first_peers_tell_is_saved_soon_and_then_once_a_minute() {
        let at = Instant::now();
        let seconds = Duration::from_secs;
        for (before, pause) in [(0, 1), (1, 2), (2, 4), (5, 32), (6, 60), (u32::MAX, 60)] {
            let last = Saved { at, before };
            assert_eq!(due(last, at), at + seconds(pause), "after {before} others");
        }
        // What follows a quiet time waits only for what comes with it.
        let last = Saved { at, before: 9 };
        assert_eq!(due(last, at + seconds(59)), at + seconds(60));
        assert_eq!(due(last, at + seconds(500)), at + seconds(501));
    }
}
