//! The definition of a workload; [`table`] lists them all.

pub(crate) mod table;

use crate::system::System;

/// A task at which the systems are compared.
///
/// In arguments, `{value}` stands for the value of the sweep and `{seconds}` for the time to
/// measure. A client of a server is also given `--addr`.
#[derive(Debug)]
pub(crate) struct Workload {
    /// The name on the command line, in tables and in the names of plots.
    pub(crate) name: &'static str,
    /// A sentence that says what it shows.
    pub(crate) meaning: &'static str,
    /// The systems that take part.
    pub(crate) systems: &'static [System],
    /// The server's role and arguments, unless one process has everything in it.
    pub(crate) server: Option<&'static str>,
    /// The client. It ends with its result, or holds its connections until its stdin ends.
    pub(crate) client: Client,
    /// The parameter that is varied.
    pub(crate) sweep: Sweep,
    /// The figures of each run; a plot of lines shows the first.
    pub(crate) measures: &'static [Measure],
    /// How long a client may take beyond the time it is asked to measure, in seconds.
    pub(crate) patience: f64,
    /// The plot that is drawn, if any.
    pub(crate) plot: Option<Plot>,
}

impl Workload {
    /// Returns whether the server's memory is read before and after the client has connected.
    pub(crate) fn measures_memory(&self) -> bool {
        self.measures
            .iter()
            .any(|measure| measure.figure == Figure::BytesPerConnection)
    }
}

/// A client's role and arguments, and the program that plays it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Client {
    /// The program that is the same for all systems on the native wire.
    Load(&'static str),
    /// The system's own program, because the client is measured too.
    Own(&'static str),
}

impl Client {
    /// Returns the role and its arguments, with their placeholders.
    pub(crate) fn arguments(self) -> &'static str {
        match self {
            Client::Load(arguments) | Client::Own(arguments) => arguments,
        }
    }
}

/// The parameter that a workload varies.
#[derive(Debug)]
pub(crate) struct Sweep {
    /// The name of the parameter.
    pub(crate) of: &'static str,
    /// The values, in order. [`Target::OfFirst`] is against the first.
    pub(crate) values: &'static [u64],
    /// The values of a quick run.
    pub(crate) quick: &'static [u64],
}

/// The sweep that `--sizes` filters.
pub(crate) const SIZE: &str = "size";

/// A figure and its target.
#[derive(Debug)]
pub(crate) struct Measure {
    /// The figure.
    pub(crate) figure: Figure,
    /// The target.
    pub(crate) target: Target,
}

/// A figure of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Figure {
    /// A count of the client's result for each of its seconds: `deliveries` or `messages`.
    PerSecond(&'static str),
    /// A latency of the client's result.
    Micros(&'static str),
    /// CPU time for each of a count of the client's result, in ns, read from outside, in the
    /// busiest stretch as long as the client counted. This excludes start and end.
    CpuNs {
        /// Whose CPU time.
        of: Processes,
        /// The count in the result.
        per: &'static str,
    },
    /// CPU time for each of a count, in ns, as the only process of the run has measured it between
    /// its start and its end.
    OwnCpuNs(&'static str),
    /// Resident memory that a server gained for each connection, in bytes.
    BytesPerConnection,
    /// The peak of the server's resident memory, in bytes.
    ServerPeak,
}

/// The processes whose CPU time is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Processes {
    /// The server's, where the client is the same for all.
    Server,
    /// The server's and the client's, where the system plays both.
    Both,
}

/// Which of two values is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    /// The greater value.
    More,
    /// The smaller value.
    Less,
}

impl Figure {
    /// Returns which of two values is better.
    pub(crate) fn better(self) -> Better {
        match self {
            Figure::PerSecond(_) => Better::More,
            _ => Better::Less,
        }
    }

    /// Returns its name in tables.
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

    /// Returns its name in the raw results, with its unit.
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

    /// Returns the unit of its values.
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

/// The unit of a figure.
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

/// The bound that a figure must reach. [`Better`] says whether it is a minimum or a maximum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    /// No bound.
    None,
    /// A ratio to `hand`: one for each value of the sweep, or one for all.
    OfHand(&'static [f64]),
    /// A ratio to the same system at the first value of the sweep.
    OfFirst(f64),
    /// A value.
    Value(f64),
}

impl Target {
    /// Returns the bound at a value of a sweep, if there is one.
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

/// The kind of a plot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plot {
    /// A line for each system: the first figure over the sweep.
    Lines,
    /// A bar for each system: each figure at each value.
    Bars,
}

/// Returns a role and its arguments with the placeholders filled in.
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
