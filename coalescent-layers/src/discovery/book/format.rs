//! A book as the text of its file.
//!
//! Lines of words that are separated by one space, in UTF-8:
//!
//! ```text
//! coalescent-book 1
//! secret 000102030405060708090a0b0c0d0e0f
//! anchor [ID@]HOST:PORT
//! new [ID@]HOST:PORT SOURCE HEARD DIALLED REACHED DECLARED FAILURES
//! tried [ID@]HOST:PORT SOURCE HEARD DIALLED REACHED DECLARED FAILURES
//! ban WHO UNTIL TIMES REASON
//! sum 0123456789abcdef0123456789abcdef
//! ```
//!
//! | line | how many | what |
//! |---|---|---|
//! | `coalescent-book` | the first | the version of the format |
//! | `secret` | the second | what the places of entries are hashed with, 32 hexadecimal digits |
//! | `anchor` | at most 2 | who is dialled first after a start |
//! | `new`, `tried` | at most 1,280 | an entry |
//! | `ban` | at most 256 | who is [banned](coalescent_core::Ban) |
//! | `sum` | the last | the checksum of all bytes before this line |
//!
//! The checksum is SipHash-2-4 with 128 bits, keyed with the secret, as 32 hexadecimal digits.
//!
//! `SOURCE` is the [`Group`] of who told of the address: `198.51.0.0/16`, `2001:db8::/32`,
//! `example.org`. `HEARD`, `DIALLED`, `REACHED` and `DECLARED` are seconds since 1970, 0 for never:
//! when somebody last mentioned the address, when it was last dialled, when a dial to it last
//! succeeded, and when a peer that was seen there last said that it listens there. `FAILURES` is
//! the number of dials that have failed since the last that succeeded.
//!
//! `WHO` is a key of 64 hexadecimal digits, an IPv4 address, or a /64 of IPv6. `UNTIL` is when the
//! ban ends, in seconds since 1970, `TIMES` how often there was one, and `REASON` any words. A ban
//! that is not understood is passed over. The file cannot make one longer than
//! [`Config::ban_max`](coalescent_core::Config::ban_max).
//!
//! Lines that begin with another word are passed over, so that later versions can add some, and so
//! are more words at the end of an entry. The file does not say where in the table an entry stands:
//! the hash does. So whoever can write the file can put addresses into it, but none where it does
//! not belong. The sum finds torn writes and damaged disks; it does not prove who wrote the file.

use std::fmt::Write as _;
use std::hash::Hasher as _;
use std::str::SplitWhitespace;

use coalescent_core::Address;
use siphasher::sip128::{Hasher128, SipHasher24};

use super::bans::{BANS_IN_BOOK, SavedBan};
use super::entry::{Entry, Seconds};
use super::error::BookError;
use super::places::{BOOK_CAPACITY, SECRET_LEN};
use super::table::{ANCHORS, Table};

/// The largest file that is read, in bytes. The largest that is written is smaller.
pub const BOOK_FILE_MAX: usize = 1024 * 1024;

const VERSION: &str = "1";
const MAGIC: &str = "coalescent-book";

impl Table {
    /// Encodes the table as the text of its file, at most [`BOOK_FILE_MAX`] bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut text = format!("{MAGIC} {VERSION}\nsecret {}\n", hex(self.secret()));
        for anchor in self.anchors() {
            // Writing to a string cannot fail; this holds for all here.
            let _ = writeln!(text, "anchor {anchor}");
        }
        for (entry, is_tried) in self.entries() {
            let word = if is_tried { "tried" } else { "new" };
            let Entry {
                address,
                source,
                heard,
                dialled,
                reached,
                declared,
                failures,
                counted_at: _,
                is_restored: _,
            } = entry;
            let _ = writeln!(
                text,
                "{word} {address} {source} {heard} {dialled} {reached} {declared} {failures}"
            );
        }
        for ban in self.bans() {
            let _ = writeln!(text, "ban {ban}");
        }
        let sum = sum(self.secret(), text.as_bytes());
        let _ = writeln!(text, "sum {sum}");
        text.into_bytes()
    }

    /// Adds the checksum that a file with these lines should have. Only for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn with_checksum(lines: &[u8]) -> Vec<u8> {
        let mut secret = lines
            .split(|byte| *byte == b'\n')
            .filter_map(|line| line.strip_prefix(b"secret "));
        let secret = secret
            .next()
            .and_then(|text| std::str::from_utf8(text).ok());
        let secret = secret.and_then(unhex).unwrap_or_default();
        let sum = sum(&secret, lines);
        [lines, format!("sum {sum}\n").as_bytes()].concat()
    }

    /// Decodes the text of a file. `seed` decides who is picked, as in [`new`](Table::new).
    ///
    /// Entries that are there twice, or whose place is taken, are left out. It is not remembered
    /// who waited for the place of another.
    ///
    /// # Errors
    ///
    /// [`is_damaged`](BookError::is_damaged) if the bytes are not what [`encode`](Table::encode)
    /// has returned.
    pub fn decode(bytes: &[u8], seed: u64) -> Result<Self, BookError> {
        decode(bytes, seed).map_err(BookError::damaged)
    }
}

fn decode(bytes: &[u8], seed: u64) -> Result<Table, &'static str> {
    if bytes.len() > BOOK_FILE_MAX {
        return Err("it is larger than any address book");
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not text")?;
    let mut lines = text.split_inclusive('\n');
    let mut first = lines.next().unwrap_or_default().split_whitespace();
    if first.next() != Some(MAGIC) {
        return Err("it does not begin as one");
    }
    if first.next() != Some(VERSION) {
        return Err("it has another version, which this program does not know");
    }
    let mut second = lines.next().unwrap_or_default().split_whitespace();
    let secret = match (second.next(), second.next().and_then(unhex)) {
        (Some("secret"), Some(secret)) => secret,
        _ => return Err("it has no secret in its second line"),
    };
    let last = text.trim_end_matches('\n').rfind('\n').unwrap_or_default();
    let (content, end) = text.split_at(last.saturating_add(1).min(text.len()));
    let expected = format!("sum {}\n", sum(&secret, content.as_bytes()));
    if end != expected {
        return Err("its checksum is wrong: it is damaged, or was edited");
    }

    let mut table = Table::new(secret, seed);
    let (mut anchors, mut bans) = (Vec::new(), Vec::new());
    let mut entries = 0;
    for line in content.split_inclusive('\n').skip(2) {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("anchor") if anchors.len() < ANCHORS => {
                let anchor = words.next().and_then(|word| word.parse::<Address>().ok());
                anchors.push(anchor.ok_or("it has an anchor that is no address")?);
            }
            Some(word @ ("new" | "tried")) => {
                entries += 1;
                if entries > BOOK_CAPACITY {
                    return Err("it has more entries than a table");
                }
                let entry = entry(words).ok_or("it has an entry that cannot be read")?;
                table.restore(entry, word == "tried");
            }
            Some("ban") if bans.len() < BANS_IN_BOOK => bans.extend(SavedBan::parse(words)),
            _ => {}
        }
    }
    table.set_anchors(anchors);
    table.set_bans(bans);
    Ok(table)
}

fn entry(mut words: SplitWhitespace<'_>) -> Option<Entry> {
    let address: Address = words.next()?.parse().ok()?;
    let source = words.next()?.parse().ok()?;
    let mut time = || words.next()?.parse::<Seconds>().ok();
    Some(Entry {
        heard: time()?,
        dialled: time()?,
        reached: time()?,
        declared: time()?,
        failures: words.next()?.parse().ok()?,
        counted_at: 0,
        is_restored: true,
        address,
        source,
    })
}

fn sum(secret: &[u8; SECRET_LEN], content: &[u8]) -> String {
    let mut hasher = SipHasher24::new_with_key(secret);
    hasher.write(content);
    format!("{:032x}", hasher.finish128().as_u128())
}

fn hex(bytes: &[u8; SECRET_LEN]) -> String {
    format!("{:032x}", u128::from_be_bytes(*bytes))
}

fn unhex(text: &str) -> Option<[u8; SECRET_LEN]> {
    let is_plain =
        text.len() == 2 * SECRET_LEN && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u128::from_str_radix(text, 16).ok();
    number.filter(|_| is_plain).map(u128::to_be_bytes)
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
