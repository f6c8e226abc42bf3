//! What one node stores: which of two writes wins, and what to send to a node that lacks some.
//!
//! Nothing in here knows of peers, tasks or clocks. The time is an argument, in microseconds since
//! 1970.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hasher;
use std::ops::Bound;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher24;

/// The bytes that a key, and a value, may have.
pub(crate) const KEY_MAX: usize = 256;
pub(crate) const VALUE_MAX: usize = 1024;

/// How many keys a replica holds, deleted ones included: some 100 MB of the largest.
pub(crate) const ENTRIES_MAX: usize = 65_536;

/// How far in the future a peer's write may be, in microseconds. A node whose clock is wrong by
/// more would win over everybody else until that time has come.
pub(crate) const AHEAD_MAX: u64 = 60_000_000;

/// The keys are split into so many parts, so that two replicas find out where they differ.
pub(crate) const BUCKETS: usize = 256;

/// The size of a page, and what an entry takes in it beside its key and value, at most.
pub(crate) const PAGE_BYTES: usize = 64 * 1024;
const ENTRY_COST: usize = 64;

/// The last write to a key. Of two, the greater wins: the later one or, at the same time, that of
/// the greater author. Authors that lie write twice at once: then the greater value wins.
///
/// So the order is total, and replicas with the same writes have the same content, whatever the
/// order in which the writes came and however often.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Write {
    pub(crate) time: u64,
    pub(crate) author: u64,
    /// `None` if the key was deleted. This has to be kept, or an old copy would bring the key back.
    pub(crate) value: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) write: Write,
}

/// Why a write is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    TooLong,
    Early,
    Full,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(
                f,
                "a key has at most {KEY_MAX} bytes, and a value {VALUE_MAX}"
            ),
            Self::Early => {
                let seconds = AHEAD_MAX / 1_000_000;
                write!(
                    f,
                    "a write is more than {seconds} s in the future: set the clocks"
                )
            }
            Self::Full => write!(f, "the store is full: it has {ENTRIES_MAX} keys"),
        }
    }
}

impl std::error::Error for Refused {}

/// What one node stores.
#[derive(Debug)]
pub(crate) struct Replica {
    /// A number that no other node writes with.
    author: u64,
    /// The time of the latest write that is known.
    clock: u64,
    len: usize,
    buckets: Vec<Bucket>,
}

#[derive(Clone, Debug, Default)]
struct Bucket {
    /// The hashes of all entries, combined so that one can be added or taken away.
    digest: u64,
    entries: BTreeMap<String, Write>,
}

impl Replica {
    pub(crate) fn new(author: u64) -> Self {
        Self {
            author,
            clock: 0,
            len: 0,
            buckets: vec![Bucket::default(); BUCKETS],
        }
    }

    /// Writes to a key, or deletes it, and returns what to tell the others.
    ///
    /// The time is later than that of each known write even if a peer's clock is ahead. So this
    /// write wins over all that its author may have seen (a hybrid logical clock).
    pub(crate) fn write(
        &mut self,
        now: u64,
        key: &str,
        value: Option<&str>,
    ) -> Result<Entry, Refused> {
        let write = Write {
            time: now.max(self.clock.saturating_add(1)),
            author: self.author,
            value: value.map(str::to_owned),
        };
        let key = key.to_owned();
        let entry = Entry { key, write };
        self.merge(entry.clone())?;
        Ok(entry)
    }

    /// Takes a write of another node, and returns whether it was news.
    pub(crate) fn apply(&mut self, now: u64, entry: Entry) -> Result<bool, Refused> {
        if entry.write.time > now.saturating_add(AHEAD_MAX) {
            return Err(Refused::Early);
        }
        self.merge(entry)
    }

    fn merge(&mut self, Entry { key, write }: Entry) -> Result<bool, Refused> {
        if key.len() > KEY_MAX || write.value.as_ref().is_some_and(|v| v.len() > VALUE_MAX) {
            return Err(Refused::TooLong);
        }
        let bucket = &mut self.buckets[bucket_of(&key)];
        match bucket.entries.get(&key) {
            Some(known) if *known >= write => return Ok(false),
            Some(known) => bucket.digest ^= hash(&key, known),
            None if self.len >= ENTRIES_MAX => return Err(Refused::Full),
            None => self.len += 1,
        }
        bucket.digest ^= hash(&key, &write);
        self.clock = self.clock.max(write.time);
        bucket.entries.insert(key, write);
        Ok(true)
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        let write = self.buckets[bucket_of(key)].entries.get(key)?;
        write.value.as_deref()
    }

    /// Returns the keys that are not deleted, with their values, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let entries = self.buckets.iter().flat_map(|bucket| &bucket.entries);
        entries.filter_map(|(key, write)| Some((key.as_str(), write.value.as_deref()?)))
    }

    /// Returns a number for each bucket, which is the same on two replicas if the bucket is.
    pub(crate) fn digests(&self) -> Vec<u64> {
        self.buckets.iter().map(|bucket| bucket.digest).collect()
    }

    /// Returns the next entries of those buckets that differ from the ones `have` tells of, in
    /// their [order](place), or nothing after the last.
    pub(crate) fn page(&self, have: &[u64], after: Option<&str>) -> Vec<Entry> {
        let mut room = PAGE_BYTES;
        let mut page = Vec::new();
        let first = after.map_or(0, bucket_of);
        for (number, bucket) in self.buckets.iter().enumerate().skip(first) {
            if have.get(number) == Some(&bucket.digest) {
                continue;
            }
            let from = match after {
                Some(key) if number == first => Bound::Excluded(key),
                _ => Bound::Unbounded,
            };
            for (key, write) in bucket.entries.range::<str, _>((from, Bound::Unbounded)) {
                let value = write.value.as_ref().map_or(0, String::len);
                let size = key.len() + value + ENTRY_COST;
                if size > room {
                    return page;
                }
                room -= size;
                let (key, write) = (key.clone(), write.clone());
                page.push(Entry { key, write });
            }
        }
        page
    }
}

/// Returns where a key stands in the order of pages: by bucket, then by key.
pub(crate) fn place(key: &str) -> (usize, &str) {
    (bucket_of(key), key)
}

fn bucket_of(key: &str) -> usize {
    let mut hasher = SipHasher24::new();
    hasher.write(key.as_bytes());
    usize::from(hasher.finish().to_be_bytes()[0])
}

/// A hash that is the same on each machine, which that of `std` does not promise.
fn hash(key: &str, write: &Write) -> u64 {
    let mut hasher = SipHasher24::new();
    // No text has this byte, so that what follows cannot be taken for a part of it.
    for text in [Some(key), write.value.as_deref()].into_iter().flatten() {
        hasher.write(text.as_bytes());
        hasher.write(&[0xff]);
    }
    hasher.write(&write.time.to_be_bytes());
    hasher.write(&write.author.to_be_bytes());
    hasher.finish()
}
