//! What was measured: a row for each run of a scenario, with a line for each phase of it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Options;
use super::relay::Relay;
use super::swarm::{Sent, Swarm, cpu_time};

/// The deliveries from which on the CPU time of one can be told from that of what nodes do anyway.
const MANY: u64 = 100_000;

/// How long a node has had nothing to do before its memory is measured.
const REST: Duration = Duration::from_secs(5);

/// One run of a scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The name of the scenario.
    pub scenario: String,
    /// What passed messages on.
    pub relay: Relay,
    /// How many nodes were started.
    pub nodes: usize,
    /// The seed of what was done to them.
    pub seed: u64,
    /// How many nodes run at the end.
    pub alive: usize,
    /// The fewest, the mean and the most neighbours of a node.
    pub degree: (usize, f64, usize),
    /// How many sets of nodes there are that can reach each other: 1 is a mesh.
    pub islands: usize,
    /// How many connections were made, and how many were tried.
    pub connections: u64,
    /// How many connections were tried.
    pub dials: u64,
    /// The simulated time from the last start, kill or heal until all nodes could reach each other,
    /// in seconds.
    pub whole_after: Option<f64>,
    /// The memory of a node that has nothing to do, in KiB. None where it is not counted.
    pub node_kib: Option<f64>,
    /// What a node does that has nothing to do.
    pub idle: Option<Idle>,
    /// How often a node was given what it had before.
    pub heard_twice: u64,
    /// What was sent, and what became of it.
    pub phases: Vec<Phase>,
    /// How long the run took.
    pub real_seconds: f64,
    /// The CPU time of the run.
    pub cpu_seconds: f64,
}

/// What a node does that has nothing to do: the mean of all, over some minutes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Idle {
    /// The connections that it makes in a minute.
    pub connections: f64,
    /// The bytes that it receives in a second, on connections that are still there at the end.
    pub bytes: f64,
    /// The CPU time that it takes, in µs a second.
    pub cpu_us: f64,
}

/// What was sent in one phase of a scenario, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// Which phase.
    pub name: String,
    /// How many messages should have been delivered, each to each other node.
    pub expected: u64,
    /// How many of them were not.
    pub missed: u64,
    /// How many copies arrived for each delivery. None where copies are not counted.
    pub copies: Option<f64>,
    /// How many bytes arrived for each byte of a payload that was delivered, all overhead and all
    /// that nodes say to each other included.
    pub bytes: f64,
    /// The most hops that a delivery took (0 where messages do not tell), and their mean over the
    /// messages.
    pub last_hop: (u8, f64),
    /// The time until the last delivery, at most and in the mean, in simulated milliseconds.
    pub last_ms: (f64, f64),
    /// The CPU time of a delivery, in µs, of the whole process. None where there were few.
    pub cpu_us: Option<f64>,
    /// How many frames were dropped.
    pub drops: u64,
    /// How many frames of plugins were dropped.
    pub channel_drops: u64,
    /// How long it took, in simulated seconds.
    pub seconds: f64,
}

impl Row {
    pub(super) fn new(scenario: &str, relay: Relay, nodes: usize, seed: u64) -> Self {
        Self {
            scenario: scenario.to_owned(),
            relay,
            nodes,
            seed,
            alive: 0,
            degree: (0, 0.0, 0),
            islands: 0,
            connections: 0,
            dials: 0,
            whole_after: None,
            node_kib: None,
            idle: None,
            heard_twice: 0,
            phases: Vec::new(),
            real_seconds: 0.0,
            cpu_seconds: 0.0,
        }
    }

    /// Returns the row without what the machine decides: CPU time, memory and the time on a clock.
    /// The seed decides the rest.
    #[must_use]
    pub fn of_the_seed(&self) -> Self {
        let phase = |phase: &Phase| Phase {
            cpu_us: None,
            ..phase.clone()
        };
        Self {
            node_kib: None,
            idle: self.idle.map(|idle| Idle {
                cpu_us: 0.0,
                ..idle
            }),
            phases: self.phases.iter().map(phase).collect(),
            real_seconds: 0.0,
            cpu_seconds: 0.0,
            ..self.clone()
        }
    }

    /// Adds what became of messages.
    pub(super) fn add(&mut self, name: &str, sent: Sent) {
        let Sent {
            heard,
            counts,
            cpu,
            took,
            size,
        } = sent;
        let each = |count: u64| count as f64 / heard.heard.max(1) as f64;
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        self.phases.push(Phase {
            name: name.to_owned(),
            expected: heard.expected,
            missed: heard.expected - heard.heard,
            copies: (counts.arrived > 0).then(|| each(counts.arrived)),
            bytes: each(counts.bytes) / size as f64,
            last_hop: (heard.last_hop, heard.mean_last_hop),
            last_ms: (ms(heard.last), ms(heard.mean_last)),
            cpu_us: (heard.heard >= MANY).then(|| cpu.as_secs_f64() * 1e6 / heard.heard as f64),
            drops: counts.dropped,
            channel_drops: counts.channel_dropped,
            seconds: took.as_secs_f64(),
        });
    }

    /// Lets the swarm run with nothing to do, and measures the second half of that time.
    pub(super) async fn run_idle(&mut self, swarm: &mut Swarm, time: Duration) {
        swarm.pass(time / 2).await;
        let before = (swarm.network.connections(), swarm.counts(), cpu_time());
        swarm.pass(time / 2).await;
        let connections = swarm.network.connections() - before.0;
        let bytes = swarm.counts().bytes.saturating_sub(before.1.bytes);
        let cpu = cpu_time().saturating_sub(before.2);
        let each = swarm.alive().len() as f64 * (time / 2).as_secs_f64();
        self.idle = Some(Idle {
            connections: connections as f64 * 60.0 / each,
            bytes: bytes as f64 / each,
            cpu_us: cpu.as_secs_f64() * 1e6 / each,
        });
    }

    /// Measures the memory of nodes that have nothing to do: what is allocated, without what was
    /// before the first of them and what the simulated network takes for its connections.
    pub(super) async fn rest(&mut self, swarm: &mut Swarm, before: usize, options: &Options) {
        swarm.pass(REST).await;
        let network = swarm.network.trim();
        let now = (options.memory)();
        let nodes = now.saturating_sub(before).saturating_sub(network);
        self.node_kib = (now > 0).then(|| nodes as f64 / 1024.0 / swarm.alive().len() as f64);
    }

    /// Notes how the swarm is at the end.
    pub(super) fn end(&mut self, swarm: &Swarm) {
        let degrees = swarm.degrees();
        let mean = degrees.iter().sum::<usize>() as f64 / degrees.len().max(1) as f64;
        let least = degrees.iter().min().copied().unwrap_or_default();
        let most = degrees.iter().max().copied().unwrap_or_default();
        self.alive = degrees.len();
        self.degree = (least, mean, most);
        self.islands = swarm.islands();
        self.connections = swarm.network.connections();
        self.dials = swarm.network.dials();
        self.whole_after = swarm.whole_after.map(|time| time.as_secs_f64());
        self.heard_twice = swarm.heard_twice();
    }

    /// Returns the phase of this name.
    #[must_use]
    pub fn phase(&self, name: &str) -> Option<&Phase> {
        self.phases.iter().find(|phase| phase.name == name)
    }
}

/// The heads of the columns of a row.
pub const HEAD: &str = "\
scenario   relay    nodes  phase      |   missed of  deliveries  copies  bytes  last hop  last ms   \
CPU us  drops | degree           islands  connections    whole  KiB a node  idle: conn/min  B/s  us/s";

fn or_dash(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, phase) in self.phases.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            let Self {
                scenario,
                relay,
                nodes,
                ..
            } = self;
            write!(
                f,
                "{scenario:10} {:8} {nodes:5}  {:10} | {:8} of {:11} {:>7} {:6.2} {:2} ({:4.1}) {:8.0} \
                 {:>8} {:6} |",
                relay.name(),
                phase.name,
                phase.missed,
                phase.expected,
                or_dash(phase.copies, 2),
                phase.bytes,
                phase.last_hop.0,
                phase.last_hop.1,
                phase.last_ms.0,
                or_dash(phase.cpu_us, 2),
                phase.drops,
            )?;
            if at + 1 < self.phases.len() {
                continue;
            }
            let (least, mean, most) = self.degree;
            write!(
                f,
                " {least:2} {mean:5.1} {most:3}     {:5} {:12} {:>7}s {:>8}",
                self.islands,
                self.connections,
                or_dash(self.whole_after, 1),
                or_dash(self.node_kib, 1),
            )?;
            if let Some(idle) = self.idle {
                let Idle {
                    connections,
                    bytes,
                    cpu_us,
                } = idle;
                write!(f, " {connections:13.2} {bytes:9.1} {cpu_us:5.1}")?;
            }
        }
        Ok(())
    }
}
