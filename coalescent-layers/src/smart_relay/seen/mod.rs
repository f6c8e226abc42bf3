//! What this node has seen, so that each frame is relayed once.
//!
//! Frames with a nonce ([`Nonces`]) and frames without ([`Contents`]) are kept apart, in as many
//! bytes each: a flood of lines cannot push out the nonces.
//!
//! Both forget a frame when its time is over, and no frame before that from which copies may still
//! come. So where a set is full, what is new is refused: it is neither handled nor relayed, and is
//! counted as dropped. Three rules keep this from those who do no harm:
//!
//! - **A share for each.** A source may hold twice as much as is free, and no more ([`share`]): a
//!   source that floods is refused, the others are not.
//! - **Where no copy comes back, nothing is refused.** Then, as in a star, the oldest frame of the
//!   same source is forgotten in place of refusing the new one.
//! - **What is old enough may go early.** How old the latest copies are says how old a frame can be
//!   when a copy of it still comes ([`Lateness`](share::Lateness)).

mod contents;
mod hasher;
mod index;
mod nonces;
mod share;
mod source;
mod thin_link;

use std::time::Duration;

use tokio::time::Instant;

use self::contents::Contents;
pub(crate) use self::hasher::Hasher;
use self::nonces::Nonces;
use self::share::millis;
pub(crate) use self::source::Source;
use self::source::Sources;

/// For how many frames there is room, unless said otherwise: 64 MiB for those with a nonce, and as
/// much for those without. A quiet node takes nothing of it.
pub const CAPACITY: usize = 1 << 21;

/// What a frame of the capacity counts for, in bytes.
pub const FRAME_BYTES: usize = 32;

/// How long a frame with a nonce is remembered, unless said otherwise.
pub const TTL: Duration = Duration::from_secs(120);

/// How long a frame without one is remembered, unless said otherwise.
pub const CONTENT_TTL: Duration = Duration::from_secs(5);

/// How many equal lines of one connection are new within that time, unless said otherwise.
pub const REPEATS: u8 = 64;

/// The longest times that can be chosen: 24 days.
const TTL_MAX: Duration = Duration::from_secs(24 * 24 * 60 * 60);

/// What is to become of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is handled, and relayed.
    New,
    /// So is this one, and there is no room for another of its source.
    Last,
    /// It has been here before.
    Copy,
    /// There is no room to remember it, so that it must not go on.
    Refused,
}

/// How much is remembered, and how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) capacity: usize,
    pub(crate) ttl: Duration,
    pub(crate) content_ttl: Duration,
    pub(crate) repeats: u8,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            capacity: CAPACITY,
            ttl: TTL,
            content_ttl: CONTENT_TTL,
            repeats: REPEATS,
        }
    }
}

/// Remembers frames, within its limits.
#[derive(Debug)]
pub(crate) struct Seen {
    sources: Sources,
    nonces: Nonces,
    contents: Contents,
    clock: Clock,
    refused: u64,
}

impl Seen {
    /// Makes an empty set.
    pub(crate) fn new(limits: Limits) -> Self {
        let bytes = limits.capacity.saturating_mul(FRAME_BYTES);
        let ttl = millis(limits.ttl.min(TTL_MAX));
        let content_ttl = millis(limits.content_ttl.min(TTL_MAX));
        // A line can come as late as any other frame.
        let latest = ttl.max(content_ttl);
        Self {
            sources: Sources::new(latest),
            nonces: Nonces::new(bytes, ttl),
            contents: Contents::new(bytes, content_ttl, latest, limits.repeats),
            clock: Clock::default(),
            refused: 0,
        }
    }

    /// Begins with a connection that brings frames.
    pub(crate) fn open(&mut self, now: Instant) -> Source {
        let clock = self.clock.at(now);
        self.sources.open(clock)
    }

    /// Ends with a connection. What it brought stays for its time.
    pub(crate) fn close(&mut self, source: Source, now: Instant) {
        let clock = self.clock.at(now);
        self.nonces.close(source);
        self.contents.close(source);
        self.sources.close(source, clock);
    }

    /// Remembers a frame that a source brought, unless it is known, or there is no room for it.
    /// `nonce` is absent on wires that have none.
    ///
    /// Takes constant time on average; an insertion that doubles what is kept pays for that at
    /// once.
    ///
    /// A `now` that is before an earlier one counts as that one: tasks that share the set may have
    /// read the clock before they waited for the lock.
    #[inline]
    pub(crate) fn insert(
        &mut self,
        source: Source,
        nonce: Option<u64>,
        identity: u128,
        now: Instant,
    ) -> Verdict {
        let clock = self.clock.at(now);
        let verdict = match nonce {
            Some(nonce) => self.nonces.insert(source, nonce, identity, clock),
            None => self.contents.insert(source, identity, clock),
        };
        if verdict == Verdict::Refused {
            self.refused += 1;
        }
        verdict
    }

    /// Notes that a frame without a nonce, of so many bytes, is passed on.
    pub(crate) fn carry(&mut self, bytes: usize, now: Instant) {
        let clock = self.clock.at(now);
        self.contents.carry(bytes, clock);
    }

    /// Whether there is room for another frame of a source, of either kind.
    pub(crate) fn has_room(&mut self, source: Source, now: Instant) -> bool {
        let clock = self.clock.at(now);
        self.nonces.has_room(source, clock) && self.contents.has_room(source, clock)
    }

    /// Counts the frames that are remembered; the time of some of them may be over.
    pub(crate) fn len(&self) -> usize {
        self.nonces.len() + self.contents.len()
    }

    /// Counts the frames that were forgotten before their time.
    pub(crate) fn forgotten_young(&self) -> u64 {
        self.nonces.forgotten_young() + self.contents.forgotten_young()
    }

    /// Counts the frames that were refused for want of room.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// Returns the bytes on the heap, about.
    pub(crate) fn bytes(&self) -> usize {
        self.nonces.bytes() + self.contents.bytes()
    }
}

/// Counts milliseconds, and never back.
#[derive(Debug, Default)]
struct Clock {
    /// The first instant, from which time is counted, and the last: frames that one read brought
    /// have one.
    instants: Option<(Instant, Instant)>,
    /// The most milliseconds that an instant was after the first.
    millis: u64,
}

impl Clock {
    #[inline]
    fn at(&mut self, now: Instant) -> u64 {
        match self.instants {
            Some((_, last)) if last == now => self.millis,
            Some((epoch, _)) => self.advance(epoch, now),
            None => self.advance(now, now),
        }
    }

    fn advance(&mut self, epoch: Instant, now: Instant) -> u64 {
        let since = now.saturating_duration_since(epoch);
        let millis = since.as_secs().saturating_mul(1000) + u64::from(since.subsec_millis());
        self.instants = Some((epoch, now));
        self.millis = self.millis.max(millis);
        self.millis
    }
}

#[cfg(test)]
mod tests;
