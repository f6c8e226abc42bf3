//! The plugin: who is dialled, and what becomes of it.

use std::path::PathBuf;
use std::sync::Arc;

use coalescent_core::{Address, Dial, Direction, Error, Peer, Plugin, Registrar};

use super::handle::Book;
use super::keeper::Keeper;
use super::links::DialledAs;
use super::mixer::Mixer;
use super::scout;
use crate::discovery::listening;

/// Remembers peers, and dials them when this node has too few.
///
/// While fewer outbound peers are connected than
/// [`Config::min_peers`](coalescent_core::Config::min_peers), and the seeds do not suffice, it
/// suggests addresses of its [`Book`]: those that other plugins have put there, and those that it
/// has learned itself.
///
/// - After each dial of this node, whoever suggested the address, it is tried or less likely to be
///   dialled again. One that turns out to be this node is forgotten.
/// - A peer that has dialled this node, and says that it listens at the host where it is seen, is
///   known, and others may be told of it.
/// - About every [two minutes](super::FEELER_EVERY), if a peer is connected, an address that was
///   never reached is dialled only to learn whether somebody is there, or one whose place another
///   waits for. For a moment this is one connection more than
///   [`max_peers`](coalescent_core::Config::max_peers); if that is 0, nobody is dialled so.
///
/// The exchanged peer is what heals a mesh that was split: when each part has found enough peers
/// within itself, nobody would dial the other part again. It comes on top of [`min_peers`], so
/// nothing is exchanged if that is 0, or as many as
/// [`max_peers`](coalescent_core::Config::max_peers).
///
/// [`min_peers`]: coalescent_core::Config::min_peers
///
/// With a [`file`](AddressBook::file) it remembers over restarts: the file is read at the start,
/// and written when the first peer is known, then in pauses that grow from a
/// [second](super::SAVE_SOON) to a [minute](super::SAVE_EVERY) while the book changes, and when the
/// mesh shuts down. The two peers that this node was connected to last are dialled first. Who is
/// [banned](coalescent_core::Mesh::bans) is still banned after a restart. Of several processes with
/// one file, the last one that writes it wins.
///
/// A file that is no book is kept as `FILE.bad`, in place of an older one, and a new one begun.
/// Whatever is wrong with the file is an [error event](coalescent_core::Event::Error) for which
/// [`is_plugin`](coalescent_core::Error::is_plugin) is true, and does not stop the node. If a file
/// that may be a book cannot be read, it is left as it is, and nothing is saved.
///
/// ```no_run
/// use coalescent::{App, AppExt};
/// use coalescent::discovery::book::AddressBook;
///
/// # async fn example() -> Result<(), coalescent::Error> {
/// let mesh = App::new()
///     .seeds(["127.0.0.1:1337"])
///     .plugin(AddressBook::new().file("peers.book"))
///     .listen("127.0.0.1:0")
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct AddressBook {
    book: Book,
    file: Option<PathBuf>,
    passive: bool,
}

impl AddressBook {
    /// Creates the plugin with an empty [`Book`] and without a file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Uses this book, which others may have too.
    pub fn with_book(self, book: Book) -> Self {
        Self { book, ..self }
    }

    /// Remembers the book in this file. Its folder must exist. If it is a link, what it leads to is
    /// written, even if that is not there yet. In that folder drafts, `.coalescent-book-` and 16
    /// digits, are removed once they are [older](super::DRAFT_KEPT) than any that is being written.
    pub fn file(self, path: impl Into<PathBuf>) -> Self {
        let file = Some(path.into());
        Self { file, ..self }
    }

    /// Sets whether this node only takes note of addresses: then it suggests none of them, and
    /// neither feels for anybody nor exchanges a peer. Default: false.
    pub fn passive(self, passive: bool) -> Self {
        Self { passive, ..self }
    }

    /// Returns the book.
    #[must_use]
    pub fn book(&self) -> &Book {
        &self.book
    }
}

impl Plugin for AddressBook {
    fn register(&self, app: &mut Registrar) {
        app.registered::<Self>();
        app.insert(self.book.clone());
        let book = self.book.clone();
        let mixer = Arc::new(Mixer::new(self.book.clone()));
        let watching = Arc::clone(&mixer);
        app.on_dial(move |dial| {
            record(&book, dial);
            watching.dialled(dial);
        });
        let book = self.book.clone();
        app.on_connect(move |peer| {
            learn(&book, &peer);
            async {}
        });
        if let Some(file) = self.file.clone() {
            let keeper = Arc::new(Keeper::new(self.book.clone(), file));
            let loading = Arc::clone(&keeper);
            app.on_start(move |mesh| async move { loading.load(&mesh).await });
            let last = Arc::clone(&keeper);
            app.on_shutdown(move |mesh| async move { last.save(&mesh).await });
            app.spawn(move |mesh| async move { keeper.keep_saving(mesh).await });
        }
        if self.passive {
            return;
        }
        app.spawn(move |mesh| async move { mixer.keep_mixing(mesh).await });
        let book = self.book.clone();
        app.spawn(move |mesh| scout::keep_suggesting(book, mesh));
        let book = self.book.clone();
        app.spawn(move |mesh| scout::keep_feeling(book, mesh));
    }
}

/// Takes note of how a dial has ended.
fn record(book: &Book, dial: &Dial) {
    remember(book, dial.address(), dial.result());
    if let Ok(peer) = dial.result() {
        let proven = dial.address().clone();
        let proven = proven.with_id(peer.id().key());
        peer.set(DialledAs(proven, dial.source()));
    }
}

/// Takes note of how a dial of this address has ended, whoever has made it.
pub(crate) fn remember(book: &Book, address: &Address, result: Result<&Peer, &Error>) {
    book.update(|table, now| match result {
        Ok(peer) => {
            let proven = address.clone().with_id(peer.id().key());
            table.dialled_ok(&proven, now);
        }
        Err(error) if error.is_itself() => table.remove(address),
        Err(error) if error.is_busy() || error.is_banned() => table.dialled_busy(address, now),
        Err(_) => table.dial_failed(address, now),
    });
}

/// Takes note of where a peer that has dialled this node says that it listens, if it is seen there.
///
/// Where a peer listens that this node has dialled is known already. What it may not dial is not
/// kept.
fn learn(book: &Book, peer: &Peer) {
    if peer.direction() == Direction::Inbound
        && let Some(listen) = listening::seen_at(peer)
    {
        let listen = listen.with_id(peer.id().key());
        if peer.mesh().is_some_and(|mesh| mesh.may_dial(&listen)) {
            book.declared(&listen);
        }
    }
}
