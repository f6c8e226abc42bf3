//! One run of one system at one value of a workload.

use std::collections::BTreeMap;
use std::fmt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::output::one_line;
use crate::process::{Cause, Ended, Process, Usage};
use crate::procfs;
use crate::system::{Places, Program, System};
use crate::workload::{Client, Figure, Processes, Workload, fill};

/// How long a server may take to print its address, and to end.
const START_OR_END: Duration = Duration::from_secs(10);

/// How long a server rests before and after connections are made, so that its memory settles.
const SETTLE: Duration = Duration::from_secs(2);

/// The same in a quick run.
const SETTLE_QUICKLY: Duration = Duration::from_millis(200);

/// The conditions that are the same for all runs.
#[derive(Debug)]
pub(crate) struct Conditions {
    /// Where the programs are.
    pub(crate) places: Places,
    /// The systems that are missing, and why.
    pub(crate) without: BTreeMap<System, String>,
    /// How long a client measures, in seconds.
    pub(crate) seconds: f64,
    /// Whether the run only shows that everything works.
    pub(crate) quick: bool,
    /// The longest wait for a process beyond the time it measures, in seconds, if that is less than
    /// the default.
    pub(crate) patience: Option<f64>,
    /// Set by a signal to end.
    pub(crate) interrupted: Arc<AtomicBool>,
}

impl Conditions {
    /// Returns why a system cannot take part, or `None` if it can.
    pub(crate) fn missing(&self, system: System) -> Option<String> {
        let known = self.without.get(&system).cloned();
        known.or_else(|| system.missing(&self.places))
    }
}

/// The result of one run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Run {
    /// The figures of the workload, in its order.
    pub(crate) figures: Vec<f64>,
    /// The object that the client printed.
    pub(crate) result: Value,
    /// The resources that the client used.
    pub(crate) client: Usage,
    /// The server, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<ServerRun>,
}

/// The result of the server of a run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ServerRun {
    /// The object that it printed at its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) result: Option<Value>,
    /// The resources that it used.
    pub(crate) usage: Usage,
}

/// The part that a process plays in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The process that others connect to.
    Server,
    /// The process that connects, or the only process.
    Client,
}

/// The reason that a run has no result.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The process that failed.
    pub(crate) part: Part,
    /// Its role and arguments.
    pub(crate) role: String,
    /// The cause.
    pub(crate) cause: Cause,
}

impl Failure {
    /// Returns whether the system does not know the role, in which case it will not know it at
    /// another value either.
    pub(crate) fn is_unknown_role(&self) -> bool {
        const UNUSABLE_ARGUMENTS: i32 = 2;
        match &self.cause {
            Cause::Ended(status, _) => status.code() == Some(UNUSABLE_ARGUMENTS),
            _ => false,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = match self.part {
            Part::Server => "server",
            Part::Client => "client",
        };
        let (role, cause) = (&self.role, one_line(&self.cause.to_string()));
        write!(f, "{part} `{role}`: {cause}")
    }
}

/// Runs a system once.
pub(crate) fn run(
    workload: &Workload,
    value: u64,
    system: System,
    conditions: &Conditions,
) -> Result<Run, Failure> {
    let bench = Bench {
        workload,
        value,
        system,
        conditions,
    };
    bench.run()
}

/// A run.
struct Bench<'a> {
    workload: &'a Workload,
    value: u64,
    system: System,
    conditions: &'a Conditions,
}

/// A process, and what an error names it by.
struct Actor {
    process: Process,
    part: Part,
    role: String,
}

impl Actor {
    fn failure(&self, cause: Cause) -> Failure {
        failure(self.part, &self.role, cause)
    }

    fn end(self, patience: Duration) -> Result<Ended, Failure> {
        let Actor {
            process,
            part,
            role,
        } = self;
        process
            .end(patience)
            .map_err(|cause| failure(part, &role, cause))
    }
}

fn failure(part: Part, role: &str, cause: Cause) -> Failure {
    Failure {
        part,
        role: role.to_owned(),
        cause,
    }
}

/// The observations that figures are computed from.
struct Observed<'a> {
    result: &'a Value,
    client: &'a Ended,
    server: Option<&'a Ended>,
    /// Bytes that the server's memory grew by, if that is measured.
    growth: f64,
}

impl Bench<'_> {
    /// Starts the server, if the workload has one, and a client until it has its result. If memory
    /// is measured, the client holds its connections until the server's memory was read.
    fn run(&self) -> Result<Run, Failure> {
        let mut server = None;
        let mut address = None;
        if let Some(role) = self.workload.server {
            let (started, listening) = self.server(role)?;
            (server, address) = (Some(started), Some(listening));
        }
        let before = self.settled_memory(server.as_mut())?;
        let mut client = self.client(address.as_deref())?;
        let waited_for = if before.is_some() {
            "connections"
        } else {
            "result"
        };
        let heard = client.process.object(
            waited_for,
            self.patience_of_client(),
            server.as_mut().map(|server| &mut server.process),
        );
        let result = heard.map_err(|cause| blame(&client, server.as_mut(), cause))?;
        if before.is_some() {
            self.holds_all(&client, &result)?;
        }
        let after = self.settled_memory(server.as_mut())?;
        let role = client.role.clone();
        let client = client.end(self.start_or_end())?;
        let server = match server {
            Some(server) => Some(server.end(self.start_or_end())?),
            None => None,
        };
        let growth = after.unwrap_or(0) as f64 - before.unwrap_or(0) as f64;
        let observed = Observed {
            result: &result,
            client: &client,
            server: server.as_ref(),
            growth,
        };
        self.sum_up(&role, &observed)
    }

    fn holds_all(&self, client: &Actor, result: &Value) -> Result<(), Failure> {
        let (connected, wanted) = (&result["connected"], self.value);
        if connected.as_u64() == Some(wanted) {
            return Ok(());
        }
        let said = format!("holds {connected} of {wanted} connections");
        Err(client.failure(Cause::Unclear(said)))
    }

    fn server(&self, role: &str) -> Result<(Actor, String), Failure> {
        let own = self.system.own(&self.conditions.places);
        let role = fill(role, self.value, self.conditions.seconds);
        let mut server = self.start(Part::Server, &own, role, None)?;
        let heard = server.process.object("address", self.start_or_end(), None);
        let object = heard.map_err(|cause| server.failure(cause))?;
        match object["listening"].as_str() {
            Some(address) => Ok((server, address.to_owned())),
            None => Err(server.failure(Cause::Unclear(
                "does not say where it is listening".to_owned(),
            ))),
        }
    }

    fn client(&self, address: Option<&str>) -> Result<Actor, Failure> {
        let client = self.workload.client;
        let places = &self.conditions.places;
        let program = match client {
            Client::Load(_) => self.system.load(places),
            Client::Own(_) => self.system.own(places),
        };
        let role = fill(client.arguments(), self.value, self.conditions.seconds);
        self.start(Part::Client, &program, role, address)
    }

    fn start(
        &self,
        part: Part,
        program: &Program,
        role: Vec<String>,
        address: Option<&str>,
    ) -> Result<Actor, Failure> {
        let said = role.join(" ");
        let mut command = Command::new(&program.path);
        command.args(program.arguments(role));
        if let Some(address) = address {
            command.args(["--addr", address]);
        }
        let process = Process::start(command, &self.conditions.interrupted)
            .map_err(|cause| failure(part, &said, cause))?;
        Ok(Actor {
            process,
            part,
            role: said,
        })
    }

    /// Returns the server's resident memory after a rest, if the workload measures that.
    fn settled_memory(&self, server: Option<&mut Actor>) -> Result<Option<u64>, Failure> {
        let Some(server) = server.filter(|_| self.workload.measures_memory()) else {
            return Ok(None);
        };
        let settle = if self.conditions.quick {
            SETTLE_QUICKLY
        } else {
            SETTLE
        };
        if let Err(cause) = server.process.rest(settle) {
            return Err(server.failure(cause));
        }
        if let Some(cause) = server.process.failed() {
            return Err(server.failure(cause));
        }
        procfs::resident_memory(server.process.id())
            .map(Some)
            .ok_or_else(|| server.failure(Cause::Unclear("its memory cannot be read".to_owned())))
    }

    fn start_or_end(&self) -> Duration {
        match self.conditions.patience {
            Some(patience) => START_OR_END.min(in_seconds(patience)),
            None => START_OR_END,
        }
    }

    fn patience_of_client(&self) -> Duration {
        let usual = self.workload.patience;
        let patience = self.conditions.patience.unwrap_or(usual).min(usual);
        in_seconds(self.conditions.seconds + patience)
    }

    fn sum_up(&self, client_role: &str, observed: &Observed<'_>) -> Result<Run, Failure> {
        let mut figures = Vec::new();
        for measure in self.workload.measures {
            let figure = figure(measure.figure, observed, self.value)
                .map_err(|said| failure(Part::Client, client_role, Cause::Unclear(said)))?;
            figures.push(figure);
        }
        Ok(Run {
            figures,
            result: observed.result.clone(),
            client: observed.client.usage.clone(),
            server: observed.server.map(|server| ServerRun {
                result: server.result.clone(),
                usage: server.usage.clone(),
            }),
        })
    }
}

/// Returns the failure of the server, if it has failed, or else that of the client.
fn blame(client: &Actor, server: Option<&mut Actor>, cause: Cause) -> Failure {
    if let Some(server) = server
        && let Some(cause) = server.process.failed()
    {
        return server.failure(cause);
    }
    client.failure(cause)
}

fn in_seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// Computes a figure, or returns which field is missing.
fn figure(figure: Figure, observed: &Observed<'_>, value: u64) -> Result<f64, String> {
    match figure {
        Figure::PerSecond(count) => {
            Ok(positive(observed.result, count)? / positive(observed.result, "seconds")?)
        }
        Figure::Micros(field) => positive(observed.result, field),
        Figure::CpuNs { of, per } => {
            let seconds = positive(observed.result, "seconds")?;
            let mut cpu = observed
                .server
                .map_or(0.0, |server| server.track.busiest(seconds));
            if of == Processes::Both {
                cpu += observed.client.track.busiest(seconds);
            }
            Ok(cpu * 1e9 / positive(observed.result, per)?)
        }
        Figure::OwnCpuNs(per) => {
            Ok(positive(observed.result, "cpu_seconds")? * 1e9 / positive(observed.result, per)?)
        }
        Figure::BytesPerConnection => Ok(observed.growth / value as f64),
        Figure::ServerPeak => Ok(observed
            .server
            .map_or(0.0, |server| server.usage.peak_rss_bytes as f64)),
    }
}

/// Returns a number of a result, which must be positive.
fn positive(result: &Value, field: &str) -> Result<f64, String> {
    match result[field].as_f64() {
        Some(number) if number > 0.0 && number.is_finite() => Ok(number),
        Some(number) => Err(format!("has {number} for {field:?}")),
        None => Err(format!("has no {field:?} in its result")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_result_must_have_counted_something() {
        let result = json!({ "deliveries": 8, "seconds": 0.0, "cause": "none" });
        assert_eq!(positive(&result, "deliveries"), Ok(8.0));
        assert_eq!(
            positive(&result, "seconds"),
            Err("has 0 for \"seconds\"".to_owned())
        );
        assert!(positive(&result, "messages").is_err());
        assert!(positive(&result, "cause").is_err());
    }

    #[test]
    fn a_failure_names_the_process_and_the_cause() {
        let cause = Cause::Unclear("holds 7 of\n8 connections".to_owned());
        let failure = failure(Part::Client, "idle --connections 8", cause);
        assert_eq!(
            failure.to_string(),
            "client `idle --connections 8`: holds 7 of 8 connections"
        );
        assert!(!failure.is_unknown_role());
    }
}
