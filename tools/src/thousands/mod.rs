//! Meshes of thousands of whole nodes in one process, on paused time: a table of scenarios, each of
//! which starts a swarm, does something to it, and counts what became of the messages sent.
//!
//! What is done, what the nodes choose and how long each link takes follow from a seed, and there
//! is one thread: two runs with the same seed do the same, apart from what the machine decides
//! ([`Row::of_the_seed`]).

mod ledger;
mod plot;
mod relay;
mod report;
mod scenario;
mod swarm;

use std::time::Duration;

pub use plot::draw;
pub use relay::Relay;
pub use report::{HEAD, Phase, Row};
pub use scenario::{SCENARIOS, Scenario};

/// How the scenarios are run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The seed of what is done. Default: 1.
    pub seed: u64,
    /// How long a swarm runs before something happens to it, in simulated time: its nodes shuffle
    /// their views. Default: 5 minutes.
    pub run: Duration,
    /// How many messages a burst has. Default: 20,000.
    pub burst: usize,
    /// How many messages a stream has. Default: 1,000.
    pub stream: usize,
    /// Returns the bytes that the program has allocated. Default: 0, which is not counted.
    pub memory: fn() -> usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            run: Duration::from_secs(5 * 60),
            burst: 20_000,
            stream: 1_000,
            memory: || 0,
        }
    }
}
