//! What the layer has found, in numbers.

/// A snapshot of what a [`Signed`](super::Signed) has found, in messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SignedStats {
    /// Properly signed, fresh, and by an allowed author.
    pub valid: u64,
    /// Without a signature.
    pub unsigned: u64,
    /// With a signature that does not hold, or with headers that are not well-formed.
    pub invalid: u64,
    /// By an author that is not [allowed](super::Signed::allow); their signatures were not checked.
    pub not_allowed: u64,
    /// Older, or from further in the future, than the [window](super::Signed::window) allows.
    pub untimely: u64,
    /// Heard before.
    pub replayed: u64,
    /// Refused because the memory had no room to tell whether they were heard before. If it grows,
    /// increase the [capacity](super::Signed::capacity).
    pub crowded: u64,
    /// How many messages are remembered now.
    pub remembered: usize,
}
