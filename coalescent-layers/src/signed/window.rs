//! Which signed messages are fresh: not too old, not from the future, and not heard before.
//!
//! Each message that was accepted is remembered by its author, its time and the first bytes of its
//! signature, until its time alone says that it is too old. Room is bounded, and no replay slips
//! through where it runs out:
//!
//! - An author whose share is full loses its own oldest entry, and from then on nothing of this
//!   author is taken that is as old as that.
//! - If the whole window is full, the oldest entry of all goes, and from then on nothing of anybody
//!   is taken that is as old as that.
//! - From half full on, nothing from more than a second in the future is taken.
//!
//! So a window that is too small does not forget, but narrows: what arrives late is refused sooner.
//!
//! # Clocks that jump
//!
//! Times are compared with the wall clock, which can be set. A jump is seen by comparison with the
//! steady clock. After one, nothing is forgotten for as long as any message could be accepted, so
//! that a clock that goes wrong and is put right lets no replay through. After a jump back nothing
//! is taken that was too old before it, unless that would refuse everything: then the clock was
//! ahead before.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::time::Duration;

use coalescent_core::identity::PublicKey;

/// How old a message may be, by the clock of this node. Default of
/// [`Signed::window`](super::Signed::window).
pub const PAST: Duration = Duration::from_secs(120);

/// How far in the future a message's time may be, by the clock of this node. Default of
/// [`Signed::window`](super::Signed::window).
pub const FUTURE: Duration = Duration::from_secs(30);

/// How many messages are remembered. Default of [`Signed::capacity`](super::Signed::capacity).
pub const CAPACITY: usize = 65_536;

/// One author may take this part of the room: a sixteenth.
pub const AUTHOR_SHARE: usize = 16;

/// A difference of more than this between the wall clock and the steady clock is a jump, in
/// milliseconds.
pub(super) const JUMP: u64 = 1000;

/// From half full on, nothing from further in the future than this is taken, in milliseconds.
const AHEAD: u64 = 1000;

/// How much of a signature is remembered, in bytes. Only its author could make two that share
/// them.
const TAG_LEN: usize = 16;

/// The options of a window, times in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) past: u64,
    pub(super) future: u64,
    pub(super) capacity: usize,
}

/// The time by both clocks, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// Since 1970; it may jump.
    pub(super) wall: u64,
    /// Since any moment; it never jumps.
    pub(super) steady: u64,
}

impl Now {
    /// Returns how far the wall clock would be now, had it not jumped since `before`.
    pub(super) fn expected(self, before: Self) -> u64 {
        let elapsed = self.steady.saturating_sub(before.steady);
        before.wall.saturating_add(elapsed)
    }
}

/// What is remembered of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    author: PublicKey,
    at: u64,
    tag: [u8; TAG_LEN],
}

impl Stamp {
    pub(super) fn new(author: PublicKey, at: u64, sig: &[u8; 64]) -> Self {
        let mut tag = [0; TAG_LEN];
        tag.iter_mut().zip(sig).for_each(|(to, from)| *to = *from);
        Self { author, at, tag }
    }
}

/// Why a message is not fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stale {
    /// It is older than allowed.
    Late,
    /// Its time is further in the future than allowed.
    Early,
    /// It was accepted before.
    Replayed,
    /// There is no room to tell whether it was accepted before.
    Crowded,
}

#[derive(Debug, Default)]
struct Share {
    count: usize,
    /// Nothing of the author that is this old is taken.
    floor: u64,
}

/// The messages that were accepted lately.
#[derive(Debug)]
pub(super) struct Window {
    limits: Limits,
    share: usize,
    by_author: BTreeSet<(PublicKey, u64, [u8; TAG_LEN])>,
    by_age: BTreeSet<(u64, PublicKey, [u8; TAG_LEN])>,
    /// Only of authors with entries: all their entries are younger than their floor, so that it
    /// has no meaning when the last of them is gone.
    shares: HashMap<PublicKey, Share>,
    /// Nothing that is this old is taken.
    floor: u64,
    last: Option<Now>,
    /// Until when nothing is forgotten because of its age, by the steady clock.
    held_until: u64,
}

impl Window {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            share: (limits.capacity / AUTHOR_SHARE).max(1),
            by_author: BTreeSet::new(),
            by_age: BTreeSet::new(),
            shares: HashMap::new(),
            floor: 0,
            last: None,
            held_until: 0,
        }
    }

    /// Returns how many messages are remembered.
    pub(super) fn len(&self) -> usize {
        self.by_age.len()
    }

    /// Checks whether a message is fresh, without remembering it.
    pub(super) fn check(&mut self, stamp: &Stamp, now: Now) -> Result<(), Stale> {
        self.tick(now);
        let latest = now.wall.saturating_add(self.limits.future);
        if stamp.at.saturating_add(self.limits.past) < now.wall {
            return Err(Stale::Late);
        }
        if stamp.at > latest {
            return Err(Stale::Early);
        }
        if self.contains(stamp) {
            return Err(Stale::Replayed);
        }
        let mut floor = self.floor;
        if let Some(share) = self.shares.get_mut(&stamp.author) {
            if share.floor > latest {
                // Left from before the clock was put back: it would refuse everything.
                share.floor = 0;
            }
            floor = floor.max(share.floor);
        }
        // Otherwise a flood from the future would leave no room for what is said now.
        let early = stamp.at > now.wall.saturating_add(AHEAD);
        let half_full = self.len() >= self.limits.capacity / 2;
        if stamp.at <= floor || early && half_full {
            return Err(Stale::Crowded);
        }
        Ok(())
    }

    /// Checks whether a message is fresh, and remembers it if so.
    pub(super) fn insert(&mut self, stamp: &Stamp, now: Now) -> Result<(), Stale> {
        self.check(stamp, now)?;
        let Stamp { author, at, tag } = *stamp;
        self.by_author.insert((author, at, tag));
        self.by_age.insert((at, author, tag));
        let share = self.shares.entry(author).or_default();
        share.count += 1;
        if share.count > self.share {
            let from = Bound::Included((author, 0, [0; TAG_LEN]));
            let oldest = self.by_author.range((from, Bound::Unbounded)).next();
            if let Some(&(author, at, tag)) = oldest {
                share.floor = share.floor.max(at);
                self.remove(Stamp { author, at, tag });
            }
        }
        // Of the newcomer too if it is the oldest: a floor is never above the time of a message
        // that is accepted just now.
        if self.len() > self.limits.capacity
            && let Some(&(at, author, tag)) = self.by_age.first()
        {
            self.floor = self.floor.max(at);
            self.remove(Stamp { author, at, tag });
        }
        Ok(())
    }

    fn contains(&self, stamp: &Stamp) -> bool {
        let key = (stamp.author, stamp.at, stamp.tag);
        self.by_author.contains(&key)
    }

    fn remove(&mut self, stamp: Stamp) {
        let Stamp { author, at, tag } = stamp;
        self.by_author.remove(&(author, at, tag));
        self.by_age.remove(&(at, author, tag));
        if let Some(share) = self.shares.get_mut(&author) {
            share.count = share.count.saturating_sub(1);
            if share.count == 0 {
                self.shares.remove(&author);
            }
        }
    }

    /// Notices jumps of the wall clock, and forgets what is too old.
    fn tick(&mut self, now: Now) {
        let Limits { past, future, .. } = self.limits;
        if let Some(last) = self.last.replace(now) {
            let expected = now.expected(last);
            if now.wall.abs_diff(expected) > JUMP {
                self.held_until = now.steady.saturating_add(past).saturating_add(future);
                if now.wall < expected {
                    self.floor = self.floor.max(expected.saturating_sub(past));
                }
            }
        }
        if self.floor > now.wall.saturating_add(future) {
            self.floor = 0;
        }
        if now.steady < self.held_until {
            return;
        }
        while let Some(&(at, author, tag)) = self.by_age.first()
            && at.saturating_add(past) < now.wall
        {
            self.remove(Stamp { author, at, tag });
        }
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
