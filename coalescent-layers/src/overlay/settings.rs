//! What can be chosen.

use std::time::Duration;

use coalescent_core::TopicName;
use rand::SeedableRng;
use rand::rngs::StdRng;

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
    /// The topics to subscribe to at the start.
    pub(crate) topics: Vec<TopicName>,
    /// Those with trees.
    pub(crate) trees: Vec<TopicName>,
    /// Makes the choices repeatable.
    pub(crate) seed: Option<u64>,
}

impl Settings {
    /// Returns where random choices come from.
    pub(crate) fn rng(&self) -> StdRng {
        self.seed
            .map_or_else(StdRng::from_os_rng, StdRng::seed_from_u64)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            active: ACTIVE,
            passive: PASSIVE,
            evict_every: Duration::from_secs(5),
            topics: Vec::new(),
            trees: Vec::new(),
            seed: None,
        }
    }
}
