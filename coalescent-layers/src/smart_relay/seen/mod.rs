//! The identities that this node has seen, so that each frame is relayed once.
//!
//! An identity is a keyed 128-bit hash ([`Hasher`]); [`Seen`] remembers identities for a while. The two
//! classes of identity have a [`Window`] each: a flood of lines, which are remembered for seconds, cannot
//! push out the nonces, which are remembered for minutes.
//!
//! ```text
//!           head (oldest)      newest
//!             v                  v
//!  ring   | . | A | B | C | D | E | . | .     identity: u128, inserted at: u32 ms
//!               0   1   2   3   4
//!
//!  index  | C2 A0 - - … | - … | E4 - B1 … | D3 …     lines of 16 entries: part of the identity,
//!                                                    number of its insertion: 32 bits together
//! ```
//!
//! The ring is written in order. Of the [`Index`](index::Index) a new identity needs one cache line, a known one that of its
//! place in the ring besides, and the oldest is forgotten without a look at either. A window takes 28 bytes an
//! identity: 16 for the identity, 4 for its time, 8 for its share of the index. It takes nothing before its first
//! identity, and doubles with use until it holds its capacity: 65,536 identities are 1.75 MiB, and twice that if both
//! classes are in full use. Once everything in it has expired, the next insertion gives the memory back.

mod hasher;
mod index;
mod window;

use std::time::Duration;

use tokio::time::Instant;

pub(crate) use self::hasher::Hasher;
use self::window::Window;

/// How many identities of each class are remembered at most, unless said otherwise.
pub const CAPACITY: usize = 65_536;

/// How long an identity with a nonce is remembered, unless said otherwise.
pub const TTL: Duration = Duration::from_secs(120);

/// How long an identity made of content alone is remembered, unless said otherwise.
pub const CONTENT_TTL: Duration = Duration::from_secs(5);

/// What an identity was made of, which decides how long it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// A nonce and the payload: equal bytes sent twice are two frames.
    Nonce,
    /// The payload alone: equal bytes are one frame until the identity expires.
    Content,
}

/// Remembers identities, the latest `capacity` of each class, each for the lifetime of its class.
///
/// Seeing a duplicate does not refresh an identity's age, in either class. For content it must not: a line
/// repeated every 4 s would be silenced for ever. For nonces it need not: a copy that comes more than
/// [`TTL`] after the first is stale wherever it was, and the order of age stays the order of insertion.
#[derive(Debug)]
pub(crate) struct Seen {
    nonces: Window,
    contents: Window,
    clock: Clock,
}

impl Default for Seen {
    fn default() -> Self {
        Self::new(CAPACITY, TTL, CONTENT_TTL)
    }
}

impl Seen {
    /// Makes an empty set that remembers at most `capacity` identities of each class (at least 1, at most
    /// 2^30), nonces for `ttl` and contents for `content_ttl` (at most 24 days; in steps of 1 ms).
    pub(crate) fn new(capacity: usize, ttl: Duration, content_ttl: Duration) -> Self {
        Self {
            nonces: Window::new(capacity, ttl),
            contents: Window::new(capacity, content_ttl),
            clock: Clock::default(),
        }
    }

    /// Remembers `identity` and returns true, or returns false if it is remembered already.
    ///
    /// Takes constant time on average; an insertion that doubles the window, or the first after many identities
    /// expired together, pays for them at once: about 1 ms at the default capacity. So does the one that counts the
    /// insertions anew, in about 0.2 ms; see [`index`].
    ///
    /// A `now` that is before an earlier one counts as that one: tasks that share the set may have read
    /// the clock before they waited for the lock.
    #[inline]
    pub(crate) fn insert(&mut self, identity: u128, class: Class, now: Instant) -> bool {
        let clock = self.clock.at(now);
        match class {
            Class::Nonce => self.nonces.insert(identity, clock),
            Class::Content => self.contents.insert(identity, clock),
        }
    }

    /// Counts the identities in memory; some of them may have expired since the last insertion.
    pub(crate) fn len(&self) -> usize {
        self.nonces.len() + self.contents.len()
    }

    /// Counts the identities that were forgotten before their time because a window was full.
    ///
    /// Each may let one copy through a second time: a number that grows calls for a larger capacity.
    pub(crate) fn evicted_young(&self) -> u64 {
        self.nonces.evicted_young() + self.contents.evicted_young()
    }

    /// Returns the bytes on the heap.
    pub(crate) fn bytes(&self) -> usize {
        self.nonces.bytes() + self.contents.bytes()
    }
}

/// Counts milliseconds, and never back.
#[derive(Debug, Default)]
struct Clock {
    /// The first instant, from which time is counted, and the last: frames that one read brought have one.
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
