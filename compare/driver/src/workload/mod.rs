//! What a workload is; [`table`] lists them all.

pub(crate) mod table;

use crate::system::System;

/// One thing that the systems are compared at.
#[derive(Debug)]
pub(crate) struct Workload {
    /// The name on the command line, in tables and in the names of plots.
    pub(crate) name: &'static str,
    /// What it shows, in a sentence.
    pub(crate) meaning: &'static str,
    /// The systems that take part.
    pub(crate) systems: &'static [System],
    /// What is started.
    pub(crate) shape: Shape,
    /// What is varied.
    pub(crate) sweep: Sweep,
    /// What is taken of each run; a plot of lines shows the first.
    pub(crate) measures: &'static [Measure],
    /// How long a client may take beyond the time it is asked to measure, in seconds.
    pub(crate) patience: f64,
    /// The plot that is drawn, if any.
    pub(crate) plot: Option<Plot>,
}

/// The processes of a run. In arguments `{value}` stands for the value of the sweep and `{seconds}`
/// for the time to measure; a client of a server is told `--addr` as well.
#[derive(Debug)]
pub(crate) enum Shape {
    /// A server, and a client that works for a while and ends.
    Served {
        /// The server's role and arguments.
        server: &'static str,
        /// The client.
        client: Client,
    },
    /// A server, and a client that connects and holds its connections until told to end.
    Held {
        /// The server's role and arguments.
        server: &'static str,
        /// The client.
        client: Client,
    },
    /// One process that has everything in it.
    Alone {
        /// The role and its arguments.
        client: Client,
    },
}

/// A client's role and arguments, and whose program plays it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Client {
    /// The program that is the same for all systems on one wire.
    Load(&'static str),
    /// The system's own, since the client is part of what is measured.
    Own(&'static str),
}

impl Client {
    /// The role and its arguments, as the table has them.
    pub(crate) fn arguments(self) -> &'static str {
        match self {
            Client::Load(arguments) | Client::Own(arguments) => arguments,
        }
    }
}

/// What a workload varies.
#[derive(Debug)]
pub(crate) struct Sweep {
    /// What the values are.
    pub(crate) of: &'static str,
    /// The values, in order; a target against the workload's own first value means the first of
    /// these.
    pub(crate) values: &'static [u64],
    /// The values of a quick run.
    pub(crate) quick: &'static [u64],
}

/// The sweep that `--sizes` filters.
pub(crate) const SIZE: &str = "size";

/// A figure and what it must reach.
#[derive(Debug)]
pub(crate) struct Measure {
    /// The figure.
    pub(crate) figure: Figure,
    /// What it must reach.
    pub(crate) target: Target,
}

/// A figure of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Figure {
    /// A count of the client's result for each of its seconds: `deliveries` or `messages`.
    PerSecond(&'static str),
    /// A latency of the client's result.
    Micros(&'static str),
    /// CPU time for each of a count of the client's result, in ns, taken from outside: that of the
    /// busiest stretch as long as the client counted, so that neither the start nor the end is in
    /// it.
    CpuNs {
        /// Whose CPU time.
        of: Processes,
        /// The count in the result.
        per: &'static str,
    },
    /// The same where one process has everything in it, and so takes its own CPU time between its
    /// start-up and its end.
    OwnCpuNs(&'static str),
    /// Resident memory that a server gained for each connection, in bytes.
    BytesPerConnection,
    /// The most resident memory that the server had, in bytes.
    ServerPeak,
}

/// Whose CPU time is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Processes {
    /// The server's, where the client is the same for all.
    Server,
    /// The server's and the client's, where both are the system's.
    Both,
}

/// Which of two figures is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    /// The greater one.
    More,
    /// The smaller one.
    Less,
}

impl Figure {
    /// Which of two is the better one.
    pub(crate) fn better(self) -> Better {
        match self {
            Figure::PerSecond(_) => Better::More,
            _ => Better::Less,
        }
    }

    /// What a table calls it.
    pub(crate) fn label(self) -> String {
        match self {
            Figure::PerSecond(count) => format!("{count}/s"),
            Figure::Micros(field) => field.trim_end_matches("_us").to_owned(),
            Figure::CpuNs { per, .. } | Figure::OwnCpuNs(per) => {
                format!("CPU/{}", singular(per))
            }
            Figure::BytesPerConnection => "memory/peer".to_owned(),
            Figure::ServerPeak => "peak memory".to_owned(),
        }
    }

    /// What the raw results call it, with its unit.
    pub(crate) fn name(self) -> String {
        match self {
            Figure::PerSecond(count) => format!("{count}_per_second"),
            Figure::Micros(field) => field.to_owned(),
            Figure::CpuNs { of, per } => {
                let of = match of {
                    Processes::Server => "server_",
                    Processes::Both => "",
                };
                format!("{of}cpu_ns_per_{}", singular(per))
            }
            Figure::OwnCpuNs(per) => format!("cpu_ns_per_{}", singular(per)),
            Figure::BytesPerConnection => "bytes_per_connection".to_owned(),
            Figure::ServerPeak => "server_peak_bytes".to_owned(),
        }
    }

    /// What a value of it is in, for a person.
    pub(crate) fn unit(self) -> Unit {
        match self {
            Figure::PerSecond(_) => Unit::Count,
            Figure::Micros(_) => Unit::Micros,
            Figure::CpuNs { .. } | Figure::OwnCpuNs(_) => Unit::Nanos,
            Figure::BytesPerConnection | Figure::ServerPeak => Unit::Bytes,
        }
    }
}

fn singular(count: &str) -> &str {
    match count {
        "deliveries" => "delivery",
        "messages" => "message",
        other => other,
    }
}

/// What a figure is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A number of things.
    Count,
    /// Microseconds.
    Micros,
    /// Nanoseconds.
    Nanos,
    /// Bytes.
    Bytes,
}

/// What a figure must reach; at least or at most follows from which is better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    /// Nothing: it is shown.
    None,
    /// A ratio to the hand-written limit: one for each value of the sweep, or one for all.
    OfHand(&'static [f64]),
    /// A ratio to the same system at the first value of the sweep.
    OfFirst(f64),
    /// A value.
    Value(f64),
}

impl Target {
    /// The bound at a value of a sweep, if there is one.
    pub(crate) fn at(&self, sweep: &Sweep, value: u64) -> Option<f64> {
        let index = || sweep.values.iter().position(|known| *known == value);
        match self {
            Target::None => None,
            Target::OfHand([bound]) | Target::Value(bound) => Some(*bound),
            Target::OfHand(bounds) => bounds.get(index()?).copied(),
            Target::OfFirst(bound) => (index()? > 0).then_some(*bound),
        }
    }
}

/// How a workload is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plot {
    /// The first figure over the sweep, a line for each system.
    Lines,
    /// Each figure of each value, a bar for each system.
    Bars,
}

/// Fills the places of a role's arguments.
pub(crate) fn fill(arguments: &str, value: u64, seconds: f64) -> Vec<String> {
    arguments
        .split_whitespace()
        .map(|argument| match argument {
            "{value}" => value.to_string(),
            "{seconds}" => seconds.to_string(),
            _ => argument.to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SWEEP: Sweep = Sweep {
        of: SIZE,
        values: &[64, 1024, 65536],
        quick: &[64],
    };

    #[test]
    fn the_places_of_arguments_are_filled() {
        assert_eq!(
            fill("load --size {value} --seconds {seconds}", 64, 0.5),
            ["load", "--size", "64", "--seconds", "0.5"]
        );
    }

    #[test]
    fn a_target_holds_at_its_value() {
        let each = Target::OfHand(&[0.9, 0.95, 1.0]);
        assert_eq!(each.at(&SWEEP, 1024), Some(0.95));
        assert_eq!(each.at(&SWEEP, 7), None);
        assert_eq!(Target::OfHand(&[1.1]).at(&SWEEP, 65536), Some(1.1));
        assert_eq!(Target::OfHand(&[1.1]).at(&SWEEP, 7), Some(1.1));
        assert_eq!(Target::OfFirst(1.0).at(&SWEEP, 64), None);
        assert_eq!(Target::OfFirst(1.0).at(&SWEEP, 1024), Some(1.0));
        assert_eq!(Target::Value(8192.0).at(&SWEEP, 64), Some(8192.0));
        assert_eq!(Target::None.at(&SWEEP, 64), None);
    }
}
