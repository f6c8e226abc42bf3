//! The sources of frames: the connections of this node, and the node itself.

use std::collections::VecDeque;

/// The index of this node itself.
pub(super) const OWN: usize = 0;

/// The index for the frames of closed connections.
pub(super) const ORPHANS: usize = 1;

/// One more than the number of connections with a bit of their own in the entry of a line: bit 0 is
/// this node's, bits 1 to 62 are those of connections, and bit 63 is [`FIRST`].
const BITS: u32 = 63;

/// The bit of the connection that was first to send a line, if it has no bit of its own.
pub(super) const FIRST: u32 = BITS;

/// A source of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// A small index, reused after the source is closed.
    pub(super) place: usize,
    /// A serial number, never reused.
    pub(super) serial: u32,
    /// The bit that marks lines sent by this source, or `None` if there are too many sources.
    pub(super) bit: Option<u32>,
    /// Until this time, in milliseconds, the source may be a reconnected peer, so the frames of
    /// closed connections count towards its share.
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

    /// Returns the serial number, which no other source has had.
    pub(crate) fn serial(self) -> u32 {
        self.serial
    }

    #[inline]
    pub(super) fn is_own(self) -> bool {
        self.place == OWN
    }

    /// Returns whether the source may be a peer that has reconnected.
    pub(super) fn may_have_returned(self, clock: u64) -> bool {
        clock < self.returned_until
    }
}

/// Allocates indices and bits to sources.
#[derive(Debug)]
pub(super) struct Sources {
    /// Time after which all frames of a closed source have expired, in milliseconds.
    rest: u64,
    places: usize,
    free: Vec<usize>,
    serial: u32,
    bits: u32,
    /// Bits that may be reused, with the time from which they may, in whole seconds.
    freed: VecDeque<(u32, u32)>,
    /// Time until which frames of closed sources may still be remembered.
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
        if u64::from(*from) * 1000 > clock {
            return None;
        }
        self.freed.pop_front().map(|(bit, _)| bit)
    }

    pub(super) fn close(&mut self, source: Source, clock: u64) {
        self.free.push(source.place);
        self.gone_until = clock.saturating_add(self.rest);
        let from = u32::try_from(self.gone_until.div_ceil(1000)).unwrap_or(u32::MAX);
        self.freed.extend(source.bit.map(|bit| (bit, from)));
    }
}
