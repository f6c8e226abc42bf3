//! The shape of a mesh, and the pace of those who publish in it: the same for every system.

use std::collections::HashSet;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::options::Options;

/// How many messages are on their way at a time, at most.
const UNDER_WAY: u64 = 256;

/// Links of a random graph in which each node can be reached: a random tree, and random links until
/// nodes have `degree` of them on average.
#[must_use]
pub fn links(nodes: usize, degree: usize, seed: u64) -> Vec<(usize, usize)> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut links: Vec<_> = (1..nodes)
        .map(|node| (node, random.random_range(0..node)))
        .collect();
    let mut known: HashSet<_> = links.iter().copied().collect();
    let most = nodes * (nodes - 1) / 2;
    let wanted = (nodes * degree / 2).clamp(links.len(), most);
    while links.len() < wanted {
        let (a, b) = (random.random_range(0..nodes), random.random_range(0..nodes));
        let link = (a.max(b), a.min(b));
        if a != b && known.insert(link) {
            links.push(link);
        }
    }
    links
}

/// Who publishes, one after another.
pub fn publishers(options: &Options) -> impl Iterator<Item = usize> + use<> {
    let mut random = SmallRng::seed_from_u64(options.seed.wrapping_add(1));
    let nodes = options.nodes;
    (0..options.messages).map(move |_| random.random_range(0..nodes))
}

/// Waits while many messages are on their way: a mesh that is overrun would measure queues.
pub async fn pace(sent: u64, options: &Options, delivered: &impl Fn() -> u64) {
    while (sent + 1).saturating_sub(delivered() / (options.nodes as u64 - 1)) > UNDER_WAY {
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}
