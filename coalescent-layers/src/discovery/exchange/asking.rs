//! When a peer is asked, and whether what it tells was asked for.

use std::time::Duration;

use coalescent_core::Direction;
use tokio::time::Instant;

use super::message::MAX_ADDRESSES;

/// A peer that was asked is asked again after this time.
pub const ASK_EVERY: Duration = Duration::from_secs(10 * 60);

/// What this node has asked one peer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asking {
    /// When the peer was asked last.
    last: Option<Instant>,
    /// How many addresses it was asked for, until it has answered.
    open: Option<usize>,
}

/// Why a tell is a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAsked {
    /// No ask is open.
    AtAll,
    /// It tells more addresses than were asked for.
    ForSoMany,
}

impl Asking {
    /// Returns when the peer is to be asked: `now` if it never was. `None` as long as it is not to
    /// be asked at all.
    ///
    /// Only peers that this node has dialled are asked, since whoever dials this node chooses to be
    /// its peer. While an ask is open there is no other, so that each answer belongs to one.
    pub(crate) fn due(&self, direction: Direction, now: Instant) -> Option<Instant> {
        let may = direction == Direction::Outbound && self.open.is_none();
        may.then(|| self.last.map_or(now, |last| last + ASK_EVERY))
    }

    /// Returns for how many addresses to ask the peer now, and opens that ask.
    pub(crate) fn ask(&mut self, direction: Direction, now: Instant) -> Option<usize> {
        if self.due(direction, now)? > now {
            return None;
        }
        self.last = Some(now);
        self.open = Some(MAX_ADDRESSES);
        self.open
    }

    /// Closes the open ask, which could not be sent. The peer is asked again after the usual time.
    pub(crate) fn unsent(&mut self) {
        self.open = None;
    }

    /// Closes the open ask, which the peer answered with `count` addresses.
    ///
    /// # Errors
    ///
    /// If it was not asked for so many. An answer that is too long closes the ask too: it does not
    /// earn another one.
    pub(crate) fn answered(&mut self, count: usize) -> Result<(), NotAsked> {
        match self.open.take() {
            None => Err(NotAsked::AtAll),
            Some(asked) if count > asked => Err(NotAsked::ForSoMany),
            Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use coalescent_core::Direction::{Inbound, Outbound};

    use super::*;

    #[test]
    fn a_dialled_peer_is_asked_at_once_and_then_every_ten_minutes() {
        let start = Instant::now();
        let mut asking = Asking::default();
        assert_eq!(asking.due(Outbound, start), Some(start));
        assert_eq!(asking.ask(Outbound, start), Some(MAX_ADDRESSES));
        assert_eq!(asking.answered(3), Ok(()));
        let next = start + ASK_EVERY;
        assert_eq!(asking.due(Outbound, start), Some(next));
        assert_eq!(asking.ask(Outbound, next - Duration::from_nanos(1)), None);
        assert_eq!(asking.ask(Outbound, next), Some(MAX_ADDRESSES));
    }

    #[test]
    fn an_inbound_peer_is_never_asked() {
        let now = Instant::now();
        let mut asking = Asking::default();
        assert_eq!(asking.due(Inbound, now), None);
        assert_eq!(asking.ask(Inbound, now), None);
        assert_eq!(asking.answered(0), Err(NotAsked::AtAll));
        // The same peer, once this node's connection to it has taken over.
        assert!(asking.ask(Outbound, now).is_some());
    }

    #[test]
    fn one_ask_is_open_at_a_time() {
        let now = Instant::now();
        let mut asking = Asking::default();
        assert!(asking.ask(Outbound, now).is_some());
        let later = now + 10 * ASK_EVERY;
        assert_eq!(asking.due(Outbound, later), None);
        assert_eq!(asking.ask(Outbound, later), None);
        assert_eq!(asking.answered(0), Ok(()));
        assert!(asking.ask(Outbound, later).is_some());
    }

    #[test]
    fn an_ask_earns_one_answer() {
        let now = Instant::now();
        for (count, first) in [
            (0, Ok(())),
            (MAX_ADDRESSES, Ok(())),
            (MAX_ADDRESSES + 1, Err(NotAsked::ForSoMany)),
        ] {
            let mut asking = Asking::default();
            assert_eq!(asking.answered(count), Err(NotAsked::AtAll));
            asking.ask(Outbound, now);
            assert_eq!(asking.answered(count), first);
            assert_eq!(asking.answered(count), Err(NotAsked::AtAll));
        }
    }

    #[test]
    fn an_ask_that_was_not_sent_is_not_open() {
        let now = Instant::now();
        let mut asking = Asking::default();
        asking.ask(Outbound, now);
        asking.unsent();
        assert_eq!(asking.answered(0), Err(NotAsked::AtAll));
        assert_eq!(asking.due(Outbound, now), Some(now + ASK_EVERY));
    }
}
