//! The address book.

mod disk;
mod entry;
mod error;
mod format;
mod group;
mod handle;
mod keeper;
mod places;
mod plugin;
mod scout;
mod table;

pub use self::entry::{FAILURES_BEFORE_SUCCESS, FAILURES_IN_A_WEEK, MENTION_LASTS, TELLABLE_FOR};
pub use self::error::BookError;
pub use self::format::BOOK_FILE_MAX;
pub use self::group::{GROUP_NAME_MAX, Group};
pub use self::handle::Book;
pub use self::keeper::SAVE_EVERY;
pub use self::places::{
    BOOK_CAPACITY, BUCKET_PLACES, NEW_BUCKETS, NEW_BUCKETS_OF_SOURCE, TRIED_BUCKETS,
    TRIED_BUCKETS_OF_GROUP,
};
pub use self::plugin::AddressBook;
pub use self::scout::FEELER_EVERY;
pub use self::table::{ANCHORS, BOOK_MEMORY, MAX_TESTS, Table};
