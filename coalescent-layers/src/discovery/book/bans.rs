//! Who is banned, as the file of a book says it.

use std::fmt;
use std::str::SplitWhitespace;
use std::time::{Duration, SystemTime};

use coalescent_core::{Ban, BanTarget};

use super::entry::{Seconds, seconds};

/// How many bans the file of a book holds: of more, those that last longest.
pub const BANS_IN_BOOK: usize = 256;

/// By how many seconds the end of a ban may seem to move while it is the same one.
const SAME: Seconds = 2;

/// A ban that outlives the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SavedBan {
    target: BanTarget,
    /// When it ends, in seconds since 1970.
    until: Seconds,
    times: u32,
    reason: String,
}

impl SavedBan {
    pub(super) fn new(ban: &Ban, now: SystemTime) -> Self {
        Self {
            target: ban.target(),
            until: seconds(now).saturating_add(ban.left().as_secs()),
            times: ban.times(),
            reason: ban.reason().to_owned(),
        }
    }

    /// Returns the ban as it is now, which may have ended. If the clock was put back it is longer
    /// than it was; the mesh limits that.
    pub(super) fn ban(&self, now: SystemTime) -> Ban {
        let left = Duration::from_secs(self.until.saturating_sub(seconds(now)));
        Ban::new(self.target, left, &self.reason).with_times(self.times)
    }

    /// Reads the words behind `ban` of a line; `None` if they are not understood.
    pub(super) fn parse(mut words: SplitWhitespace<'_>) -> Option<Self> {
        let target = words.next()?.parse().ok()?;
        let until = words.next()?.parse().ok()?;
        let times = words.next()?.parse().ok()?;
        let reason = words.collect::<Vec<_>>().join(" ");
        // This makes the reason one that can be written again.
        let ban = Ban::new(target, Duration::ZERO, reason);
        Some(Self {
            target,
            until,
            times,
            reason: ban.reason().to_owned(),
        })
    }

    /// Returns whether another says the same, as far as clocks tell.
    fn is_same(&self, other: &Self) -> bool {
        (self.target, self.times) == (other.target, other.times)
            && self.until.abs_diff(other.until) <= SAME
    }
}

/// As the words of a line.
impl fmt::Display for SavedBan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            target,
            until,
            times,
            reason,
        } = self;
        write!(f, "{target} {until} {times} {reason}")
    }
}

/// Returns whether two lists of bans say the same, as far as clocks tell.
pub(super) fn are_same(some: &[SavedBan], others: &[SavedBan]) -> bool {
    let has = |other: &SavedBan| some.iter().any(|ban| ban.is_same(other));
    some.len() == others.len() && others.iter().all(has)
}
