//! The output: a table for the terminal, a document with tables, and the raw results.

mod judged;
mod markdown;
mod raw;
#[cfg(test)]
pub(crate) mod samples;
mod terminal;
mod units;

pub(crate) use markdown::document;
pub(crate) use raw::raw;
use serde::Serialize;
pub(crate) use terminal::table;
pub(crate) use units::amount;

use crate::machine::Machine;

/// The conditions of the run, which stand above the results.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Preface {
    /// The name of the raw results.
    pub(crate) name: String,
    /// The start, as [`now`](crate::machine::now) formats it.
    pub(crate) began: String,
    /// The machine.
    pub(crate) machine: Machine,
    /// Runs of each system at each value.
    pub(crate) repetitions: u32,
    /// How long each run measured, in seconds.
    pub(crate) seconds: f64,
    /// Whether the run only shows that everything works.
    pub(crate) quick: bool,
}
