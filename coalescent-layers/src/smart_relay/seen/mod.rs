//! The set of frames that this node has seen, so that each frame is relayed once.
//!
//! Frames with a nonce ([`Nonces`]) and frames without ([`Contents`]) are kept separately, each
//! with its own bound in bytes, so a flood of lines cannot evict nonces.
//!
//! Both sets evict a frame when it expires, and never earlier while copies of it may still arrive.
//! If a set is full, a new frame is therefore refused: it is neither handled nor relayed, and is
//! counted as dropped. Three rules keep well-behaved peers from being refused:
//!
//! - **Shares.** A source may hold a bounded multiple of the free room ([`share`]), so a source
//!   that floods is refused while others are not.
//! - **Without copies, old frames make room.** In a star no copies arrive. The oldest frame is then
//!   evicted instead of refusing the new one: of frames with a nonce the oldest of the same source,
//!   if its nonces are consecutive.
//! - **Old frames may be evicted early.** The ages of recent copies show how old a frame can be
//!   when a copy of it still arrives ([`Lateness`](share::Lateness)).

mod contents;
mod counts;
mod hasher;
mod holders;
mod index;
mod nonces;
mod novelty;
mod share;
mod source;
mod thin_link;

use std::time::Duration;

use tokio::time::Instant;

use self::contents::Contents;
pub(crate) use self::hasher::Hasher;
use self::nonces::Nonces;
pub(crate) use self::novelty::Novelty;
use self::share::millis;
pub(crate) use self::source::Source;
use self::source::Sources;

/// Default capacity in frames: 64 MiB for frames with a nonce and as much for frames without.
/// Memory is allocated only as needed.
pub const CAPACITY: usize = 1 << 21;

/// Memory per frame of the capacity, in bytes.
pub const FRAME_BYTES: usize = 32;

/// How long a frame with a nonce is remembered by default.
pub const TTL: Duration = Duration::from_secs(120);

/// How long a frame without a nonce is remembered by default.
pub const CONTENT_TTL: Duration = Duration::from_secs(5);

/// How many equal lines of one connection are accepted as new within [`CONTENT_TTL`] by default.
pub const REPEATS: u8 = 64;

/// Upper bound of the configurable times: 24 days.
const TTL_MAX: Duration = Duration::from_secs(24 * 24 * 60 * 60);

/// How much is remembered, and for how long.
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

/// A bounded set of seen frames.
#[derive(Debug)]
pub(crate) struct Seen {
    sources: Sources,
    nonces: Nonces,
    contents: Contents,
    clock: Clock,
    refused: u64,
}

impl Seen {
    /// Creates an empty set.
    pub(crate) fn new(limits: Limits) -> Self {
        let bytes = limits.capacity.saturating_mul(FRAME_BYTES);
        let ttl = millis(limits.ttl.min(TTL_MAX));
        let content_ttl = millis(limits.content_ttl.min(TTL_MAX));
        // A line can arrive as late as any other frame.
        let latest = ttl.max(content_ttl);
        Self {
            sources: Sources::new(latest),
            nonces: Nonces::new(bytes, ttl),
            contents: Contents::new(bytes, content_ttl, latest, limits.repeats),
            clock: Clock::default(),
            refused: 0,
        }
    }

    /// Registers a connection as a source of frames.
    pub(crate) fn open(&mut self, now: Instant) -> Source {
        let clock = self.clock.at(now);
        self.sources.open(clock)
    }

    /// Removes a connection. Its frames stay until they expire.
    pub(crate) fn close(&mut self, source: Source, now: Instant) {
        let clock = self.clock.at(now);
        self.nonces.close(source);
        self.contents.close(source);
        self.sources.close(source, clock);
    }

    /// Decides about a frame from a source, and adds it to the set if it is new and there is room.
    /// `nonce` is `None` on wires without nonces.
    ///
    /// Takes amortized constant time; an insertion that doubles the memory pays for it at once.
    ///
    /// A `now` before an earlier one is treated as that one: tasks read the clock before they wait
    /// for the lock.
    #[inline]
    pub(crate) fn insert(
        &mut self,
        source: Source,
        nonce: Option<u64>,
        identity: u128,
        now: Instant,
    ) -> Novelty {
        let clock = self.clock.at(now);
        let novelty = match nonce {
            Some(nonce) => self.nonces.insert(source, nonce, identity, clock),
            None => self.contents.insert(source, identity, clock),
        };
        if novelty == Novelty::Refused {
            self.refused += 1;
        }
        novelty
    }

    /// Forgets a frame that was new `age` ago, so that the next copy of it is new too.
    ///
    /// Copies that have arrived in between stay copies: what they were sent for does not come
    /// again. Of equal lines, one less is known. What has expired in between may be there as
    /// another frame, which stays.
    pub(crate) fn forget(&mut self, nonce: Option<u64>, identity: u128, age: Duration) {
        match nonce {
            Some(nonce) => self.nonces.forget(nonce, identity, millis(age)),
            None => self.contents.forget(identity, millis(age)),
        }
    }

    /// Records that a frame of `bytes` bytes without a nonce is relayed.
    pub(crate) fn carry(&mut self, bytes: usize, now: Instant) {
        let clock = self.clock.at(now);
        self.contents.carry(bytes, clock);
    }

    /// Returns whether there is room for another frame of a source, with or without a nonce.
    pub(crate) fn has_room(&mut self, source: Source, now: Instant) -> bool {
        let clock = self.clock.at(now);
        self.nonces.has_room(source, clock) && self.contents.has_room(source, clock)
    }

    /// Returns the number of frames remembered, including some that may have expired.
    pub(crate) fn len(&self) -> usize {
        self.nonces.len() + self.contents.len()
    }

    /// Returns the number of frames evicted before they expired.
    pub(crate) fn forgotten_young(&self) -> u64 {
        self.nonces.forgotten_young() + self.contents.forgotten_young()
    }

    /// Returns the number of frames refused for lack of room.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// Returns the approximate heap memory in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.nonces.bytes() + self.contents.bytes()
    }
}

/// A monotonic clock in milliseconds.
#[derive(Debug, Default)]
struct Clock {
    /// The first instant, which is time zero, and the last. Frames of one read batch have equal
    /// instants.
    instants: Option<(Instant, Instant)>,
    /// The largest time so far.
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
