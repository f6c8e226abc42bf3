//! Whole nodes on a simulated network and simulated time: a random mesh whose links are cut, held
//! up and healed, and whose nodes are killed and started again, while everyone talks.
//!
//! Each run follows a seed: the mesh, what is done to it and when, and how long each message
//! travels. (The nodes' own random numbers, of ids and backoffs, do not.) `COALESCENT_SIM_SEED`
//! runs one seed alone, and `COALESCENT_SIM_RUNS` says how many there are.

mod history;
mod node;
mod transport;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use history::{Happened, Message, check_stats};
use node::{BACKOFF_MAX, PING, World, name};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const RUNS: u64 = 20;

/// How much simulated time passes in a step.
const TICK: Duration = Duration::from_millis(5);

/// How much simulated time something may take that must happen.
const DEADLINE: Duration = Duration::from_secs(60);

/// For how long the network is bad.
const TROUBLE: Duration = Duration::from_secs(10);

struct Simulation {
    sim: turmoil::Sim<'static>,
    world: World,
    rng: StdRng,
    edges: Vec<(usize, usize)>,
    nodes: usize,
    said: Message,
    killed: HashSet<usize>,
    /// Pairs whose link is cut (true) or held up (false).
    bad: Vec<(usize, usize, bool)>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let nodes = rng.random_range(4..=10);
        let mut edges: Vec<(usize, usize)> = (1..nodes)
            .map(|node| (node, rng.random_range(0..node)))
            .collect();
        for _ in 0..rng.random_range(0..nodes) {
            let (a, b) = (rng.random_range(0..nodes), rng.random_range(0..nodes));
            if a > b && !edges.contains(&(a, b)) {
                edges.push((a, b));
            }
        }
        let sim = turmoil::Builder::new()
            .rng_seed(seed)
            .tick_duration(TICK)
            .simulation_duration(Duration::from_secs(100_000))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(rng.random_range(5..120)))
            .tcp_capacity(1024)
            .enable_random_order()
            .build();
        let mut simulation = Self {
            sim,
            world: World::default(),
            rng,
            edges,
            nodes,
            said: 0,
            killed: HashSet::new(),
            bad: Vec::new(),
        };
        for me in 0..nodes {
            let seeds: Vec<usize> = simulation
                .edges
                .iter()
                .filter(|(a, _)| *a == me)
                .map(|(_, b)| *b)
                .collect();
            let world = simulation.world.clone();
            simulation.sim.host(name(me), move || {
                node::run(me, seeds.clone(), world.clone())
            });
        }
        simulation
    }

    fn step(&mut self) {
        self.sim.step().expect("nodes that run");
    }

    fn pass(&mut self, time: Duration) {
        let end = self.sim.elapsed() + time;
        while self.sim.elapsed() < end {
            self.step();
        }
    }

    fn until(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> bool) {
        let end = self.sim.elapsed() + DEADLINE;
        while !condition(self) {
            assert!(self.sim.elapsed() < end, "not in time: {what}");
            self.step();
        }
    }

    fn degree(&self, node: usize) -> usize {
        self.edges
            .iter()
            .filter(|&&(a, b)| a == node || b == node)
            .count()
    }

    fn all_connected(&mut self) {
        self.until("all connections", |this| {
            let degrees: Vec<usize> = (0..this.nodes).map(|node| this.degree(node)).collect();
            this.world.with(|state| {
                degrees.iter().enumerate().all(|(node, degree)| {
                    state
                        .nodes
                        .get(&node)
                        .is_some_and(|running| running.mesh.peers().len() == *degree)
                })
            })
        });
    }

    /// Has a random node that runs say something.
    fn say(&mut self) -> Option<Message> {
        let node = self.rng.random_range(0..self.nodes);
        self.said += 1;
        let message = self.said;
        self.world.with(|state| {
            state
                .nodes
                .get(&node)
                .and_then(|running| running.say.send(message).ok())
        })?;
        Some(message)
    }

    /// Says much while nothing is wrong: all of it must arrive.
    fn calm(&mut self) {
        let mut messages = Vec::new();
        for _ in 0..30 {
            messages.extend(self.say());
            if self.rng.random_bool(0.3) {
                self.step();
            }
        }
        self.until("everyone hears what is said in a calm", |this| {
            this.world.with(|state| {
                messages
                    .iter()
                    .all(|message| state.history.is_everywhere(*message))
            })
        });
    }

    fn kill(&mut self, node: usize) {
        if self.killed.insert(node) {
            let now = self.sim.elapsed();
            self.sim.crash(name(node));
            self.world.with(|state| {
                state.nodes.remove(&node);
                if let Some(id) = state.history.running.remove(&node) {
                    state.history.add(now, id, Happened::Crashed);
                }
            });
        }
    }

    fn revive(&mut self, node: usize) {
        if self.killed.remove(&node) {
            self.sim.bounce(name(node));
        }
    }

    fn heal(&mut self, at: usize) {
        let (a, b, cut) = self.bad.swap_remove(at);
        if cut {
            self.sim.repair(name(a), name(b));
        } else {
            self.sim.release(name(a), name(b));
        }
    }

    /// Does one thing to the network or the nodes.
    fn meddle(&mut self) {
        let node = self.rng.random_range(0..self.nodes);
        match self.rng.random_range(0..10) {
            0 => self.kill(node),
            1 | 2 => {
                let killed: Vec<usize> = (0..self.nodes)
                    .filter(|node| self.killed.contains(node))
                    .collect();
                if let Some(node) = killed.first() {
                    self.revive(*node);
                }
            }
            3..=5 => {
                let (a, b) = self.edges[self.rng.random_range(0..self.edges.len())];
                if !self.bad.iter().any(|&(c, d, _)| (a, b) == (c, d)) {
                    let cut = self.rng.random_bool(0.5);
                    if cut {
                        self.sim.partition(name(a), name(b));
                    } else {
                        self.sim.hold(name(a), name(b));
                    }
                    self.bad.push((a, b, cut));
                }
            }
            6..=8 if !self.bad.is_empty() => {
                let at = self.rng.random_range(0..self.bad.len());
                self.heal(at);
            }
            _ => {}
        }
    }

    fn trouble(&mut self) {
        let end = self.sim.elapsed() + TROUBLE;
        while self.sim.elapsed() < end {
            if self.rng.random_bool(0.02) {
                self.meddle();
            }
            if self.rng.random_bool(0.05) {
                self.say();
            }
            self.step();
        }
        while !self.bad.is_empty() {
            self.heal(0);
        }
        for node in 0..self.nodes {
            self.revive(node);
        }
        // Until dead connections have been noticed, and dialled again.
        self.pass(PING * 2 + BACKOFF_MAX + Duration::from_secs(2));
    }

    fn finish(&mut self) -> usize {
        // What is still on its way arrives, and so would a copy of it.
        self.pass(Duration::from_secs(1));
        self.world.with(|state| {
            for running in state.nodes.values() {
                check_stats(running.mesh.stats(), running.queued);
            }
            state.history.check()
        })
    }
}

/// Runs one seed, and says what happened in it.
fn run(seed: u64) -> String {
    let mut simulation = Simulation::new(seed);
    let world = simulation.world.clone();
    let result = catch_unwind(AssertUnwindSafe(|| {
        simulation.all_connected();
        simulation.calm();
        let calm = world.with(|state| state.history.reach());
        assert_eq!(calm.0, calm.1, "possible and real deliveries in a calm");
        let ends = world.with(|state| {
            state
                .history
                .count(|happened| matches!(happened, Happened::Disconnected(..)))
        });
        assert_eq!(ends, 0, "peers left in a calm");
        simulation.trouble();
        simulation.all_connected();
        simulation.calm();
        simulation.finish()
    }));
    let owed = result.unwrap_or_else(|panic| {
        world.with(|state| state.history.print());
        println!("to run this again: COALESCENT_SIM_SEED={seed}");
        resume_unwind(panic);
    });
    world.with(|state| {
        let (possible, real) = state.history.reach();
        let crashes = state.history.count(|happened| matches!(happened, Happened::Crashed));
        let ends = state.history.count(|happened| matches!(happened, Happened::Disconnected(..)));
        format!(
            "seed {seed}: {} nodes, {} links, {} said, {real} of {possible} delivered, {owed} owed, {crashes} killed, {ends} ends of peers",
            simulation.nodes,
            simulation.edges.len(),
            simulation.said,
        )
    })
}

#[test]
fn what_is_sent_and_what_is_delivered_agree() {
    let number = |name| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse::<u64>().expect("a number"))
    };
    if let Some(seed) = number("COALESCENT_SIM_SEED") {
        println!("{}", run(seed));
        return;
    }
    let runs = number("COALESCENT_SIM_RUNS").unwrap_or(RUNS);
    let next = AtomicU64::new(1);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let seed @ 1.. = next.fetch_add(1, Relaxed)
                    && seed <= runs
                {
                    println!("{}", run(seed));
                }
            });
        }
    });
}
