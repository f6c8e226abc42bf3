//! The scenarios: what is done to a swarm.

use std::time::{Duration, Instant};

use super::Options;
use super::relay::{FIXED, Relay};
use super::report::Row;
use super::swarm::{Senders, Sending, Swarm, cpu_time};

/// The time after which nothing may be missed: from the last start, kill or heal on.
const SETTLE: Duration = Duration::from_secs(30);

/// How long a network stays split.
const SPLIT: Duration = Duration::from_secs(10 * 60);

/// How long a swarm may take to become one again before it is given up.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// The latency of a link, in milliseconds, where time matters.
const LATENCY: std::ops::Range<u64> = 10..100;

/// The time between two starts, where not all start at once.
const APART: Duration = Duration::from_millis(50);

/// The time between two messages of a stream.
const PACE: Duration = Duration::from_millis(50);

/// How many messages a stream has before it is measured.
const WARM_UP: usize = 100;

/// A message now and then, from anybody.
const CHAT: Sending = Sending {
    messages: 30,
    every: Duration::from_secs(1),
    size: 1024,
    senders: Senders::Any,
};

/// Something that is done to a swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Its name in options and tables.
    pub name: &'static str,
    /// What is done.
    pub meaning: &'static str,
    act: Act,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Row,
    /// Through so many seeds.
    Storm(usize),
    Split,
    /// So many percent.
    Kill(usize),
    Burst,
    OneSender,
    ChangingSenders,
}

/// All scenarios.
pub const SCENARIOS: [Scenario; 9] = [
    Scenario {
        name: "row",
        meaning: "nodes start one after another, each knowing the one before it",
        act: Act::Row,
    },
    Scenario {
        name: "storm-1",
        meaning: "all nodes start at once, through one seed",
        act: Act::Storm(1),
    },
    Scenario {
        name: "storm-3",
        meaning: "all nodes start at once, through three seeds",
        act: Act::Storm(3),
    },
    Scenario {
        name: "split",
        meaning: "the network is split into halves for ten minutes, and heals",
        act: Act::Split,
    },
    Scenario {
        name: "kill-50",
        meaning: "half of the nodes are killed at once",
        act: Act::Kill(50),
    },
    Scenario {
        name: "kill-80",
        meaning: "four of five nodes are killed at once",
        act: Act::Kill(80),
    },
    Scenario {
        name: "burst",
        meaning: "one node sends 1 KiB messages as fast as they are taken",
        act: Act::Burst,
    },
    Scenario {
        name: "one-sender",
        meaning: "one node sends 20 messages of 1 KiB a second",
        act: Act::OneSender,
    },
    Scenario {
        name: "senders",
        meaning: "20 messages of 1 KiB a second, each from another node",
        act: Act::ChangingSenders,
    },
];

impl Scenario {
    /// Returns the scenario of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        SCENARIOS.into_iter().find(|scenario| scenario.name == name)
    }

    /// Runs it on paused time, in a runtime of its own.
    ///
    /// # Panics
    ///
    /// Panics if there is no runtime to be had, or a node does not start.
    #[must_use]
    pub fn run(self, relay: Relay, nodes: usize, options: &Options) -> Row {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
        runtime.block_on(self.play(relay, nodes, options))
    }

    async fn play(self, relay: Relay, nodes: usize, options: &Options) -> Row {
        let (real, cpu, memory) = (Instant::now(), cpu_time(), (options.memory)());
        // Without latency, all that a burst takes is CPU time.
        let latency = match self.act {
            Act::Burst => 0..0,
            _ => LATENCY,
        };
        let mut swarm = Swarm::new(relay, latency, options.seed);
        self.start(&mut swarm, nodes).await;
        let mut row = Row::new(self.name, relay, nodes, options.seed);
        match self.act {
            Act::Row | Act::Storm(_) => {
                row.add("0-30 s", swarm.send(CHAT).await);
                row.rest(&mut swarm, memory, options).await;
                row.add("30 s on", swarm.send(CHAT).await);
                if self.act == Act::Row {
                    swarm.pass(options.run).await;
                    row.add("later", swarm.send(CHAT).await);
                }
            }
            Act::Split => {
                row.run_idle(&mut swarm, options.run).await;
                let half = swarm.some(nodes / 2);
                swarm.split(&half);
                swarm.pass(SETTLE).await;
                row.add("halves", swarm.send(CHAT).await);
                swarm.pass(SPLIT).await;
                swarm.heal();
                row.add("0-30 s", swarm.send(CHAT).await);
                row.add("30 s on", swarm.send(CHAT).await);
                swarm.become_whole(LIMIT).await;
                swarm.pass(SETTLE).await;
                row.rest(&mut swarm, memory, options).await;
                row.add("once whole", swarm.send(CHAT).await);
            }
            Act::Kill(percent) => {
                row.run_idle(&mut swarm, options.run).await;
                let killed = swarm.some(nodes * percent / 100);
                swarm.kill(&killed).await;
                row.add("0-30 s", swarm.send(CHAT).await);
                row.rest(&mut swarm, memory, options).await;
                row.add("30 s on", swarm.send(CHAT).await);
            }
            Act::Burst | Act::OneSender | Act::ChangingSenders => {
                row.run_idle(&mut swarm, options.run).await;
                row.rest(&mut swarm, memory, options).await;
                self.load(&mut swarm, &mut row, options).await;
            }
        }
        row.end(&swarm);
        swarm.end().await;
        row.real_seconds = real.elapsed().as_secs_f64();
        row.cpu_seconds = cpu_time().saturating_sub(cpu).as_secs_f64();
        row
    }

    /// Starts all nodes.
    async fn start(self, swarm: &mut Swarm, nodes: usize) {
        for node in 0..nodes {
            let seeds = match (swarm.relay, self.act) {
                // Any five others, whether they run already or not.
                (Relay::Fixed, _) => (0..FIXED).map(|_| swarm.random(0..nodes)).collect(),
                (_, Act::Row) => node.checked_sub(1).into_iter().collect(),
                (_, Act::Storm(seeds)) => (0..seeds).collect(),
                _ => vec![0, 1, 2],
            };
            swarm.add(&seeds).await;
            if !matches!(self.act, Act::Storm(_)) {
                swarm.pass(APART).await;
            }
        }
    }

    /// Sends what costs something.
    async fn load(self, swarm: &mut Swarm, row: &mut Row, options: &Options) {
        let mut sending = Sending {
            messages: options.burst,
            every: Duration::ZERO,
            size: 1024,
            senders: Senders::One,
        };
        if self.act == Act::Burst {
            row.add("burst", swarm.send(sending).await);
            return;
        }
        sending.every = PACE;
        if self.act == Act::ChangingSenders {
            sending.senders = Senders::Any;
        }
        // The first of them make the tree.
        sending.messages = WARM_UP;
        row.add("first", swarm.send(sending).await);
        sending.messages = options.stream;
        row.add("then", swarm.send(sending).await);
    }
}
