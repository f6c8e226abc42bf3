//! When the file is read and written.

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coalescent_core::{Error, Mesh, Source, Suggestion, WeakMesh};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use super::bans::SavedBan;
use super::disk;
use super::error::BookError;
use super::handle::Book;
use super::links::anchors;

/// How often a book that changes is saved: once a minute.
pub const SAVE_EVERY: Duration = Duration::from_secs(60);

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
        let mut last = None;
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
            match due(last, start, is_peer_known) {
                _ if !self.may_save.load(Relaxed) => self.book.changed().await,
                // Nobody tells of a ban, so this looks now and then.
                _ if !is_changed => {
                    let _ = timeout_at(now + SAVE_EVERY, self.book.changed()).await;
                }
                due if due > now => {
                    let _ = timeout_at(due, self.book.changed()).await;
                }
                _ => {
                    let Some(mesh) = mesh.upgrade() else { return };
                    last = Some(now);
                    self.save(&mesh).await;
                }
            }
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
        let text = error.to_string();
        let mut said = lock(&self.said);
        if said.as_ref() != Some(&text) {
            mesh.peers().report(Error::plugin(text.clone()));
            *said = Some(text);
        }
    }
}

/// Returns when a book that has changed is to be saved.
fn due(last: Option<Instant>, start: Instant, is_peer_known: bool) -> Instant {
    match last {
        Some(last) => last + SAVE_EVERY,
        None if is_peer_known => start,
        None => start + SAVE_EVERY,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_peer_is_saved_at_once_and_then_once_a_minute() {
        let start = Instant::now();
        assert_eq!(due(None, start, false), start + SAVE_EVERY);
        assert_eq!(due(None, start, true), start);
        let last = start + Duration::from_secs(7);
        assert_eq!(due(Some(last), start, true), last + SAVE_EVERY);
    }
}
