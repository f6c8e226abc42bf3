//! The table as its users share it, with a clock.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use coalescent_core::Address;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::group::Group;
use super::table::Table;

/// The addresses that a node knows: a [`Table`] that plugins share. Cheap to clone.
///
/// [`AddressBook`](super::AddressBook) puts one among the shared values of the app, where others
/// find it with [`Mesh::get`](coalescent_core::Mesh::get).
///
/// ```
/// use coalescent::{App, AppExt, Discovery};
/// use coalescent::discovery::book::{Book, Group};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mesh = App::new().with(Discovery::new()).start().await?;
/// let book: Book = mesh.get().ok_or("no plugin keeps a book")?;
/// assert!(book.is_empty());
/// let address = "198.51.100.7:1337".parse()?;
/// assert!(book.heard(&address, &Group::of(&"203.0.113.4:1337".parse()?)));
/// assert_eq!(book.len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Book(Arc<Shared>);

struct Shared {
    table: Mutex<Table>,
    clock: Clock,
    /// Notified when there may be something to save.
    changed: Notify,
    /// Notified when there may be somebody new to dial.
    grown: Notify,
}

/// Tells the time of the system, and keeps going where that is put back or stands still.
#[derive(Debug)]
struct Clock {
    start: SystemTime,
    started: Instant,
}

impl Clock {
    fn now(&self) -> SystemTime {
        let since = self.started.elapsed();
        let steady = self.start.checked_add(since).unwrap_or(self.start);
        SystemTime::now().max(steady)
    }
}

impl Book {
    /// Makes an empty book with a random secret.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            table: Mutex::new(Table::new(rand::random(), rand::random())),
            clock: Clock {
                start: SystemTime::now(),
                started: Instant::now(),
            },
            changed: Notify::new(),
            grown: Notify::new(),
        }))
    }

    /// Takes note that a peer of the group `source` told of an address, and returns whether it is
    /// new and was kept; see [`Table::heard`].
    pub fn heard(&self, address: &Address, source: &Group) -> bool {
        self.update(|table, now| table.heard(address, source, now))
    }

    /// Takes note that a peer that is seen at this host says that it listens there, and returns
    /// whether the address is new and was kept; see [`Table::declared`].
    pub fn declared(&self, address: &Address) -> bool {
        self.update(|table, now| table.declared(address, now))
    }

    /// Returns the addresses that others may be told of; see [`Table::tellable`].
    #[must_use]
    pub fn tellable(&self) -> Vec<Address> {
        let now = self.0.clock.now();
        self.table().tellable(now).cloned().collect()
    }

    /// Returns the number of addresses.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table().len()
    }

    /// Returns whether no address is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table().is_empty()
    }

    /// Calls `f` with the table and the time. Others wait meanwhile, so it must not block.
    pub fn update<R>(&self, f: impl FnOnce(&mut Table, SystemTime) -> R) -> R {
        let now = self.0.clock.now();
        let mut table = self.table();
        let before = (table.changes(), table.len());
        let result = f(&mut table, now);
        let after = (table.changes(), table.len());
        drop(table);
        if before.0 != after.0 {
            self.0.changed.notify_one();
        }
        if before.1 < after.1 {
            self.0.grown.notify_one();
        }
        result
    }

    /// Waits for a change of what is saved since the last call. For one waiter.
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Waits for an address more since the last call. For one waiter.
    pub(super) async fn grown(&self) {
        self.0.grown.notified().await;
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Book {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Book").field(&*self.table()).finish()
    }
}
