//! What an overlay counts.

use super::guard::Refused;

/// The counters and sizes of the overlay of one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OverlayStats {
    /// How many neighbours this node has in the mesh itself: its degree.
    pub neighbours: usize,
    /// How many others it remembers, to ask when a neighbour is lost.
    pub passive: usize,
    /// Of how many nodes it knows the address.
    pub known: usize,
    /// How many nodes of the overlay it is connected to, neighbours among them.
    pub connections: usize,
    /// How many topics it takes part in, the mesh itself among them.
    pub topics: usize,
    /// How many bytes of payloads its trees keep for those who ask.
    pub tree_bytes: usize,
    /// How often it has told somebody whom it knows, to learn whom others know.
    pub rounds: u64,
    /// How often it has joined, through whomever.
    pub joins: u64,
    /// How many neighbours it has got.
    pub ups: u64,
    /// How many neighbours it has lost.
    pub downs: u64,
    /// How many contacts it has dialled.
    pub dialled: u64,
    /// How many of these dials have failed.
    pub failed: u64,
    /// How many messages it has heeded.
    pub taken: u64,
    /// How many messages of others it has not heeded, for each reason.
    pub(crate) refused: [u64; Refused::ALL.len()],
    /// How many messages were faults.
    pub faults: u64,
}

impl OverlayStats {
    pub(crate) fn refuse(&mut self, why: Refused) {
        if let Some(count) = self.refused.get_mut(why as usize) {
            *count = count.saturating_add(1);
        }
    }

    /// Returns how many messages were not heeded, whatever the reason.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.iter().sum()
    }

    /// Returns the reasons why messages were not heeded, and how many for each, by name.
    pub fn refused_by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let labels = Refused::ALL.iter().map(|why| why.label());
        labels.zip(self.refused.iter().copied())
    }
}
