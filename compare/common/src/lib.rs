//! The parts that the programs of the comparison share.
//!
//! Each program plays *roles*: the first argument names the role, the role prints JSON objects, one
//! a line, and the process exits 0, or says in one line on stderr why not.
//!
//! - [`program`]: the `main` of every program; [`options`]: its command line.
//! - [`phase`]: a warm-up and a measured stretch of time; [`report`]: the objects that are printed.
//! - [`flow`]: numbered payloads, and a bound on the messages in flight.
//! - [`star`]: the clients of a hub, for systems that bring a client of their own.
//! - [`mesh`]: a random graph of nodes in one process, and a flood through it.

pub mod flow;
pub mod mesh;
pub mod options;
pub mod phase;
pub mod program;
pub mod report;
pub mod star;

use std::error::Error;
use std::time::Duration;

/// An error that ends a role; its text is one line for the person who started it.
pub type Failed = Box<dyn Error + Send + Sync>;

/// How long a role waits for something that should take no time, such as a connection.
pub const PATIENCE: Duration = Duration::from_secs(10);
