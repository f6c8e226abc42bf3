//! Who brings frames: the connections of this node, and the node itself.

use std::collections::VecDeque;

/// The place of what this node itself says.
pub(super) const OWN: usize = 0;

/// The place of what connections that have ended have brought.
pub(super) const ORPHANS: usize = 1;

/// How many connections have a bit of their own in the entry of a line.
const BITS: u32 = 63;

/// The bit of the connection that was first with a line, where it has none of its own.
pub(super) const FIRST: u32 = BITS;

/// One who brings frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// Small, and used again once the source has gone.
    pub(super) place: usize,
    /// Never used again.
    pub(super) serial: u32,
    /// The bit that says of a line that this source has brought it; none where there are too many
    /// sources.
    pub(super) bit: Option<u32>,
    /// Until when it may be one that has gone and come back, in milliseconds: what those hold
    /// counts as its own too.
    pub(super) returned_until: u64,
}

impl Source {
    /// This node itself.
    pub(crate) const NODE: Self = Self {
        place: OWN,
        serial: 0,
        bit: Some(0),
        returned_until: 0,
    };

    #[inline]
    pub(super) fn is_own(self) -> bool {
        self.place == OWN
    }

    /// Whether it may be one that has gone and come back.
    pub(super) fn may_have_returned(self, clock: u64) -> bool {
        clock < self.returned_until
    }
}

/// Gives out the places.
#[derive(Debug)]
pub(super) struct Sources {
    /// After how many milliseconds no line is remembered any more that a source has brought.
    rest: u64,
    places: usize,
    free: Vec<usize>,
    serial: u32,
    bits: u32,
    /// Bits that may be given out again, with the time from which.
    freed: VecDeque<(u32, u64)>,
    /// Until when something is remembered that one who has gone has brought.
    gone_until: u64,
}

impl Sources {
    pub(super) fn new(rest: u64) -> Self {
        Self {
            rest,
            places: ORPHANS + 1,
            free: Vec::new(),
            serial: 0,
            bits: 1,
            freed: VecDeque::new(),
            gone_until: 0,
        }
    }

    pub(super) fn open(&mut self, clock: u64) -> Source {
        self.serial = self.serial.checked_add(1).unwrap_or(1);
        Source {
            place: self.free.pop().unwrap_or_else(|| {
                self.places += 1;
                self.places - 1
            }),
            serial: self.serial,
            bit: self.bit(clock),
            returned_until: match clock < self.gone_until {
                true => clock.saturating_add(self.rest),
                false => 0,
            },
        }
    }

    fn bit(&mut self, clock: u64) -> Option<u32> {
        if self.bits < BITS {
            self.bits += 1;
            return Some(self.bits - 1);
        }
        let (_, from) = self.freed.front()?;
        if *from > clock {
            return None;
        }
        self.freed.pop_front().map(|(bit, _)| bit)
    }

    pub(super) fn close(&mut self, source: Source, clock: u64) {
        self.free.push(source.place);
        self.gone_until = clock.saturating_add(self.rest);
        self.freed
            .extend(source.bit.map(|bit| (bit, clock.saturating_add(self.rest))));
    }
}
