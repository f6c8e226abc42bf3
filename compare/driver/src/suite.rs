//! All runs, interleaved: one repetition of every system, then the next of every system. So other
//! work of the machine affects all systems alike.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Write;

use serde::Serialize;

use crate::measure::{self, Conditions, Failure, Run};
use crate::options::Planned;
use crate::process::Cause;
use crate::stats::{Summary, summarize};
use crate::system::{OURS, System};
use crate::workload::Workload;

/// The results of a workload.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The workload.
    pub(crate) workload: &'static Workload,
    /// A point for each value.
    pub(crate) points: Vec<Point>,
}

/// The results at one value.
#[derive(Debug)]
pub(crate) struct Point {
    /// The value of the sweep.
    pub(crate) value: u64,
    /// The systems that were to take part, and their runs.
    pub(crate) systems: Vec<(System, Vec<Run>)>,
}

impl Point {
    /// Summarizes a figure of a system.
    pub(crate) fn summary(&self, system: System, figure: usize) -> Option<Summary> {
        let (_, runs) = self.systems.iter().find(|(known, _)| *known == system)?;
        summarize(
            runs.iter()
                .filter_map(|run| run.figures.get(figure).copied())
                .collect(),
        )
    }
}

/// A system without a result, in one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct LeftOut {
    /// The system.
    #[serde(serialize_with = "by_name")]
    pub(crate) system: System,
    /// The workload, and why.
    pub(crate) why: String,
}

fn by_name<S: serde::Serializer>(system: &System, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(system.name())
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.system, self.why)
    }
}

/// All results.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// The workloads.
    pub(crate) outcomes: Vec<Outcome>,
    /// The systems that are missing or failed.
    pub(crate) left_out: Vec<LeftOut>,
}

impl Results {
    /// Returns whether `hand` or `coalescent` has failed, without which there is no comparison.
    pub(crate) fn failed(&self) -> bool {
        self.left_out
            .iter()
            .any(|left_out| OURS.contains(&left_out.system))
    }

    fn leave_out(&mut self, system: System, why: String, log: &mut dyn Write) {
        let left_out = LeftOut { system, why };
        say(log, format_args!("{left_out}"));
        self.left_out.push(left_out);
    }
}

/// Writes to the log. An error means that nobody reads it, and does not end the run.
fn say(log: &mut dyn Write, line: fmt::Arguments<'_>) {
    let _ = writeln!(log, "{line}");
}

/// A signal has ended the run early.
#[derive(Debug)]
pub(crate) struct Interrupted;

/// Runs the plan. A system that is missing or fails is a line in `log`, and the others go on.
pub(crate) fn run(
    plan: &[Planned],
    repetitions: u32,
    conditions: &Conditions,
    log: &mut dyn Write,
) -> Result<Results, Interrupted> {
    let mut results = Results::default();
    let planned: BTreeSet<System> = plan
        .iter()
        .flat_map(|planned| planned.systems.iter().copied())
        .collect();
    let mut missing = BTreeSet::new();
    for system in planned {
        if let Some(why) = conditions.missing(system) {
            results.leave_out(system, why, log);
            missing.insert(system);
        }
    }
    for planned in plan {
        let mut out = missing.clone();
        let mut points = Vec::new();
        for value in &planned.values {
            let systems: Vec<System> = planned
                .systems
                .iter()
                .copied()
                .filter(|system| !out.contains(system))
                .collect();
            if !systems.is_empty() {
                let (name, of) = (planned.workload.name, planned.workload.sweep.of);
                say(log, format_args!("running {name}, {of} {value}"));
            }
            let mut point = Point {
                value: *value,
                systems: systems
                    .into_iter()
                    .map(|system| (system, Vec::new()))
                    .collect(),
            };
            let failures = repeat(planned.workload, &mut point, repetitions, conditions)?;
            for (system, failure) in failures {
                if failure.is_unknown_role() {
                    out.insert(system);
                }
                let (name, of) = (planned.workload.name, planned.workload.sweep.of);
                let why = format!("{name}, {of} {value}, {failure}");
                results.leave_out(system, why, log);
            }
            points.push(point);
        }
        results.outcomes.push(Outcome {
            workload: planned.workload,
            points,
        });
    }
    Ok(results)
}

/// Runs all systems at one value, interleaved. A system that fails is not tried again there; its
/// earlier runs count.
fn repeat(
    workload: &'static Workload,
    point: &mut Point,
    repetitions: u32,
    conditions: &Conditions,
) -> Result<BTreeMap<System, Failure>, Interrupted> {
    let mut failures = BTreeMap::new();
    for _ in 0..repetitions {
        for (system, runs) in &mut point.systems {
            if failures.contains_key(system) {
                continue;
            }
            match measure::run(workload, point.value, *system, conditions) {
                Ok(run) => runs.push(run),
                Err(failure) if matches!(failure.cause, Cause::Interrupted) => {
                    return Err(Interrupted);
                }
                Err(failure) => {
                    failures.insert(*system, failure);
                }
            }
        }
    }
    Ok(failures)
}
