//! What can be chosen.

use std::time::Duration;

/// The default number of neighbours.
pub const ACTIVE: usize = 5;

/// The default number of peers that are remembered to be asked when a neighbour is lost.
pub const PASSIVE: usize = 30;

/// The settings of an overlay.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// How many neighbours a node has in a topic.
    pub(crate) active: usize,
    /// How many peers are remembered in a topic.
    pub(crate) passive: usize,
    /// How often the engine looks for payloads of trees that it need not keep any longer.
    pub(crate) evict_every: Duration,
    /// Makes the choices repeatable.
    pub(crate) seed: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            active: ACTIVE,
            passive: PASSIVE,
            evict_every: Duration::from_secs(5),
            seed: None,
        }
    }
}
