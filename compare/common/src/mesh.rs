//! A mesh of many nodes in one process, and a flood through it: random nodes publish, and each
//! message has to reach every other node exactly once. Graph, publishers and pace are the same for
//! every system.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use tokio::time::sleep;

use crate::Failed;
use crate::options::Options;
use crate::report::{self, cpu_time};

/// How long no delivery may happen before the flood fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A mesh that can be flooded.
pub trait Mesh: Send {
    /// Messages that may be in flight. More would overrun the mesh, and measure its queues.
    const IN_FLIGHT: u64 = 256;

    /// Publishes a message from a node.
    fn publish(
        &mut self,
        node: usize,
        number: u64,
    ) -> impl Future<Output = Result<(), Failed>> + Send;

    /// Returns the number of deliveries so far, summed over all nodes.
    fn delivered(&self) -> u64;

    /// Returns the number of messages that are no longer in flight, given how many nodes receive
    /// each.
    fn arrived(&self, receivers: u64) -> u64 {
        self.delivered() / receivers
    }
}

/// Returns the links of a random connected graph: a random tree, and random links until nodes have
/// `--degree` links on average.
#[must_use]
pub fn links(options: &Options) -> Vec<(usize, usize)> {
    let nodes = options.nodes;
    let mut random = SmallRng::seed_from_u64(options.seed);
    let mut links: Vec<_> = (1..nodes)
        .map(|node| (node, random.random_range(0..node)))
        .collect();
    let mut known: HashSet<_> = links.iter().copied().collect();
    let most = nodes * (nodes - 1) / 2;
    let wanted = (nodes * options.degree / 2).clamp(links.len(), most);
    while links.len() < wanted {
        let (a, b) = (random.random_range(0..nodes), random.random_range(0..nodes));
        let link = (a.max(b), a.min(b));
        if a != b && known.insert(link) {
            links.push(link);
        }
    }
    links
}

/// Returns the publisher of each message, in order.
fn publishers(options: &Options) -> impl Iterator<Item = usize> + use<> {
    let mut random = SmallRng::seed_from_u64(options.seed.wrapping_add(1));
    let nodes = options.nodes;
    (0..options.messages).map(move |_| random.random_range(0..nodes))
}

/// Floods all messages through a connected mesh, and prints deliveries, seconds and CPU time.
///
/// # Errors
///
/// Where a message cannot be published, is missing, or is delivered twice.
pub async fn flood(options: &Options, mesh: &mut impl Mesh) -> Result<(), Failed> {
    let receivers = options.nodes as u64 - 1;
    let all = options.messages * receivers;
    let window = in_flight(options, mesh);
    let (began, cpu) = (Instant::now(), cpu_time());
    let mut watch = Watch::new(all);
    for (number, node) in (0..).zip(publishers(options)) {
        mesh.publish(node, number).await?;
        while (number + 1_u64).saturating_sub(mesh.arrived(receivers)) > window {
            watch.look(mesh.delivered())?;
            sleep(Duration::from_micros(200)).await;
        }
    }
    while mesh.delivered() < all {
        watch.look(mesh.delivered())?;
        sleep(Duration::from_millis(1)).await;
    }
    if mesh.delivered() != all {
        return Err(format!("{} deliveries, and not {all}", mesh.delivered()).into());
    }
    report::print(&json!({
        "deliveries": all,
        "seconds": began.elapsed().as_secs_f64(),
        "cpu_seconds": (cpu_time() - cpu).as_secs_f64(),
    }));
    Ok(())
}

fn in_flight<M: Mesh>(options: &Options, _: &M) -> u64 {
    options
        .window
        .map_or(M::IN_FLIGHT, |window| window.min(M::IN_FLIGHT))
}

/// Notices when deliveries stop.
struct Watch {
    all: u64,
    delivered: u64,
    since: Instant,
}

impl Watch {
    fn new(all: u64) -> Self {
        Self {
            all,
            delivered: 0,
            since: Instant::now(),
        }
    }

    fn look(&mut self, delivered: u64) -> Result<(), Failed> {
        if delivered > self.delivered {
            (self.delivered, self.since) = (delivered, Instant::now());
        } else if self.since.elapsed() > PATIENCE {
            let all = self.all;
            return Err(format!("{delivered} of {all} deliveries after {PATIENCE:?}").into());
        }
        Ok(())
    }
}
