//! What a layer says about whether a frame is passed on.

/// Whether a frame is passed on to other peers; see [`Frame::judge`](crate::Frame::judge).
///
/// ```
/// use coalescent::{Frame, Verdict};
///
/// /// What this node thinks of chess moves, as `e2e4`.
/// fn check(frame: &Frame) -> Verdict {
///     match frame.payload() {
///         [b'a'..=b'h', b'1'..=b'8', b'a'..=b'h', b'1'..=b'8'] => Verdict::Accept,
///         // Perhaps a later version knows what this is.
///         [_, _, _, _, ..] => Verdict::Ignore,
///         // No version of the program says this.
///         _ => Verdict::reject(),
///     }
/// }
/// # use coalescent::{test_util, wire::Kind};
/// # let frame = |payload| test_util::frame(Kind::Broadcast { nonce: 1 }, payload);
/// assert_eq!(check(&frame("e2e4")), Verdict::Accept);
/// assert_eq!(check(&frame("resign")), Verdict::Ignore);
/// assert_eq!(check(&frame("e2")), Verdict::Reject(Verdict::REJECT_WEIGHT));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The frame is passed on, and handled here.
    Accept,
    /// The frame is neither passed on nor handled here. Nobody pays for it: another node may
    /// think otherwise, such as one that runs a later version of the program.
    Ignore,
    /// As [`Ignore`](Verdict::Ignore), for a reason that may pass, such as a database that did not
    /// answer: a copy that arrives later is judged anew.
    Retry,
    /// The frame is neither passed on nor handled here, and its weight is held against the peer
    /// that sent it to this node ([`Peer::penalize`](crate::Peer::penalize)).
    ///
    /// That peer need not have made the frame. So reject only what every node of the network
    /// refuses to pass on: a frame that honest nodes do pass on makes honest nodes cut each other.
    Reject(u32),
}

impl Verdict {
    /// The weight of [`reject`](Verdict::reject): the sixth rejected frame within a minute
    /// disconnects a peer, with the default [`error_budget`](crate::Config::error_budget) of 100.
    pub const REJECT_WEIGHT: u32 = 20;

    /// Rejects the frame, with the usual weight of 20.
    #[must_use]
    pub const fn reject() -> Self {
        Self::Reject(Self::REJECT_WEIGHT)
    }

    /// Returns the verdict as a number, which is never 0.
    pub(super) fn to_bits(self) -> u64 {
        match self {
            Self::Accept => 1,
            Self::Ignore => 2,
            Self::Retry => 3,
            Self::Reject(weight) => 4 | u64::from(weight) << 8,
        }
    }

    /// Returns the verdict of a number, or `None` for 0.
    pub(super) fn from_bits(bits: u64) -> Option<Self> {
        match bits & 0xff {
            0 => None,
            1 => Some(Self::Accept),
            2 => Some(Self::Ignore),
            3 => Some(Self::Retry),
            _ => Some(Self::Reject((bits >> 8) as u32)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verdict_is_a_number() {
        let all = [
            Verdict::Accept,
            Verdict::Ignore,
            Verdict::Retry,
            Verdict::Reject(0),
            Verdict::reject(),
            Verdict::Reject(u32::MAX),
        ];
        for verdict in all {
            assert_eq!(Verdict::from_bits(verdict.to_bits()), Some(verdict));
        }
        assert_eq!(Verdict::from_bits(0), None);
    }
}
