//! Whether a frame that arrives is new.

/// Whether a frame is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Novelty {
    /// The frame is new: handle and relay it.
    New,
    /// Like `New`, but the set has no room for another frame of this source.
    Last,
    /// The frame has been seen before.
    Copy,
    /// There is no room to remember the frame, so it must not be handled or relayed.
    Refused,
}
