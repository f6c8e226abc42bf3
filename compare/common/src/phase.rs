//! The two stretches of time for which a client works: the warm-up, and what is measured.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::options::Options;
use crate::report;

/// A stretch of time for which a client works.
#[derive(Clone, Copy, Debug)]
pub struct Phase {
    began: Instant,
    limit: Duration,
    measured: bool,
}

/// Returns the warm-up and then the measured phase. Each begins when the iterator returns it.
pub fn phases(options: &Options) -> impl Iterator<Item = Phase> + use<> {
    let phases = [(options.warmup, false), (options.seconds, true)];
    phases.into_iter().map(|(limit, measured)| Phase {
        began: Instant::now(),
        limit,
        measured,
    })
}

impl Phase {
    /// Returns whether there is time left.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        self.began.elapsed() < self.limit
    }

    /// Prints `result` with the seconds that the phase has taken, unless it is the warm-up.
    pub fn report(self, mut result: Value) {
        if self.measured {
            result["seconds"] = json!(self.began.elapsed().as_secs_f64());
            report::print(&result);
        }
    }
}
