//! The address book: the peers that a node knows, also after a restart.
//!
//! [`AddressBook`] is the plugin: it dials who is known while this node has too few peers, takes
//! note of who was reached, and keeps the book in a file. [`Book`] is what plugins share that find
//! addresses or tell them. [`Table`] decides what is kept: it has no socket, file or clock.
//!
//! # What an attacker can take of it
//!
//! The table is that of Bitcoin Core's address manager, made smaller. A hash with a secret, which
//! is drawn for each book and stays in its file, gives each address one place among the *new* ones,
//! of which this node has only heard, and one among the *tried* ones, which a dial of this node has
//! reached.
//!
//! - Peers of one [group](Group), whatever they tell, can fill [`NEW_BUCKETS_OF_SOURCE`] of the
//!   [`NEW_BUCKETS`]: 8 of 64.
//! - Addresses of one group that answer dials can fill [`TRIED_BUCKETS_OF_GROUP`] of the
//!   [`TRIED_BUCKETS`]: 4 of 16.
//! - All together fill [`BOOK_CAPACITY`] places, 1,280, and [`BOOK_MEMORY`] bytes.
//!
//! What is there gives way only if it is [long unheard of](MENTION_LASTS), never answers
//! ([`FAILURES_BEFORE_SUCCESS`], [`FAILURES_IN_A_WEEK`]), or is dated in the future; a tried
//! address only if a dial to it fails while another waits for its place. Failed dials count only if
//! others succeed meanwhile, so that a node that is offline does not lose what it knows.
//!
//! Unlike there, an address has one place among the new ones, not up to eight, and who waits for a
//! tried place gets it only when a dial to the holder has failed, not after some time.
//!
//! # The file
//!
//! Lines of text: a version, the secret, the addresses to dial first, the entries, who is banned,
//! and a checksum.
//! Written beside the old file, which it then replaces, so that a reader finds one or the other. On
//! Unix only its owner may read it: the secret is in it. It has at most [`BOOK_FILE_MAX`] bytes.

mod bans;
mod disk;
mod entry;
mod error;
mod format;
mod group;
mod handle;
mod keeper;
mod links;
mod mixer;
mod pick;
mod places;
mod plugin;
mod scout;
mod table;

pub use self::bans::BANS_IN_BOOK;
pub use self::disk::DRAFT_KEPT;
pub use self::entry::{FAILURES_BEFORE_SUCCESS, FAILURES_IN_A_WEEK, MENTION_LASTS, TELLABLE_FOR};
pub use self::error::BookError;
pub use self::format::BOOK_FILE_MAX;
pub use self::group::{GROUP_NAME_MAX, Group};
pub use self::handle::Book;
pub use self::keeper::{SAVE_EVERY, SAVE_SOON};
pub use self::mixer::MIX_EVERY;
pub use self::places::{
    BOOK_CAPACITY, BUCKET_PLACES, NEW_BUCKETS, NEW_BUCKETS_OF_SOURCE, TRIED_BUCKETS,
    TRIED_BUCKETS_OF_GROUP,
};
pub use self::plugin::AddressBook;
#[cfg(feature = "overlay")]
pub(crate) use self::plugin::remember;
pub use self::scout::FEELER_EVERY;
pub use self::table::{ANCHORS, BOOK_MEMORY, MAX_TESTS, Table};
