//! One run of one system at one value of a workload.

use std::collections::BTreeMap;
use std::fmt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::process::{Cause, Ended, Process, Usage, one_line};
use crate::procfs;
use crate::system::{Places, Program, System};
use crate::workload::{Client, Figure, Processes, Shape, Workload, fill};

/// How long a server may take until it says where it is, and to end.
const START_OR_END: Duration = Duration::from_secs(10);

/// How long a server is left alone before and after connections are made, so that its memory has
/// settled.
const SETTLE: Duration = Duration::from_secs(2);

/// The same in a quick run.
const SETTLE_QUICKLY: Duration = Duration::from_millis(200);

/// What is the same for all runs.
#[derive(Debug)]
pub(crate) struct Conditions {
    /// Where programs are.
    pub(crate) places: Places,
    /// The systems that are known to be missing, and why.
    pub(crate) without: BTreeMap<System, String>,
    /// How long a client measures, in seconds.
    pub(crate) seconds: f64,
    /// Whether it is only to be seen that all works.
    pub(crate) quick: bool,
    /// The most that is waited for a process beyond what it measures, in seconds, if that is less
    /// than usual.
    pub(crate) patience: Option<f64>,
    /// Set once all must end.
    pub(crate) interrupted: Arc<AtomicBool>,
}

impl Conditions {
    /// Why a system cannot take part, if it cannot.
    pub(crate) fn missing(&self, system: System) -> Option<String> {
        let known = self.without.get(&system).cloned();
        known.or_else(|| system.missing(&self.places))
    }
}

/// What one run gave.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Run {
    /// The figures of the workload, in its order.
    pub(crate) figures: Vec<f64>,
    /// What the client said.
    pub(crate) result: Value,
    /// What the client used.
    pub(crate) client: Usage,
    /// The server, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<ServerRun>,
}

/// What the server of a run gave.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ServerRun {
    /// What it said at its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) result: Option<Value>,
    /// What it used.
    pub(crate) usage: Usage,
}

/// The part of a process in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// What is connected to.
    Server,
    /// What connects, or is alone.
    Client,
}

/// Why a run gave nothing.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The process that failed.
    pub(crate) part: Part,
    /// Its role and arguments.
    pub(crate) role: String,
    /// Why.
    pub(crate) cause: Cause,
}

impl Failure {
    /// Whether the system does not know what it was asked for, which it will not know at another
    /// value either.
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
    match workload.shape {
        Shape::Served { server, client } => bench.served(server, client),
        Shape::Held { server, client } => bench.held(server, client),
        Shape::Alone { client } => bench.alone(client),
    }
}

/// One run, before it has begun.
struct Bench<'a> {
    workload: &'a Workload,
    value: u64,
    system: System,
    conditions: &'a Conditions,
}

/// A process with what is said of it when it fails.
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

/// What figures are made of.
struct Seen<'a> {
    result: &'a Value,
    client: &'a Ended,
    server: Option<&'a Ended>,
    /// What the server's memory grew by, where that is measured.
    growth: f64,
}

impl Bench<'_> {
    /// A server, and a client until it has its result.
    fn served(&self, server: &str, client: Client) -> Result<Run, Failure> {
        let (mut server, address) = self.server(server)?;
        let mut client = self.client(client, Some(&address))?;
        let heard = client.process.object(
            "result",
            self.patience_of_client(),
            Some(&mut server.process),
        );
        let result = heard.map_err(|cause| blame(&client, &mut server, cause))?;
        let client_role = client.role.clone();
        let client = client.end(self.start_or_end())?;
        let server = server.end(self.start_or_end())?;
        self.sum_up(
            &client_role,
            &Seen {
                result: &result,
                client: &client,
                server: Some(&server),
                growth: 0.0,
            },
        )
    }

    /// A server, and a client that holds its connections while the server's memory is looked at.
    fn held(&self, server: &str, client: Client) -> Result<Run, Failure> {
        let (mut server, address) = self.server(server)?;
        let before = self.settled_memory(&mut server)?;
        let mut client = self.client(client, Some(&address))?;
        let heard = client.process.object(
            "connections",
            self.patience_of_client(),
            Some(&mut server.process),
        );
        let result = heard.map_err(|cause| blame(&client, &mut server, cause))?;
        if result["connected"].as_u64() != Some(self.value) {
            let said = format!(
                "holds {} of {} connections",
                result["connected"], self.value
            );
            return Err(client.failure(Cause::Unclear(said)));
        }
        let after = self.settled_memory(&mut server)?;
        let client_role = client.role.clone();
        let client = client.end(self.start_or_end())?;
        let server = server.end(self.start_or_end())?;
        self.sum_up(
            &client_role,
            &Seen {
                result: &result,
                client: &client,
                server: Some(&server),
                growth: after as f64 - before as f64,
            },
        )
    }

    /// One process with everything in it.
    fn alone(&self, client: Client) -> Result<Run, Failure> {
        let mut client = self.client(client, None)?;
        let heard = client
            .process
            .object("result", self.patience_of_client(), None);
        let result = heard.map_err(|cause| client.failure(cause))?;
        let client_role = client.role.clone();
        let client = client.end(self.start_or_end())?;
        self.sum_up(
            &client_role,
            &Seen {
                result: &result,
                client: &client,
                server: None,
                growth: 0.0,
            },
        )
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

    fn client(&self, client: Client, address: Option<&str>) -> Result<Actor, Failure> {
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

    fn settled_memory(&self, server: &mut Actor) -> Result<u64, Failure> {
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

    fn sum_up(&self, client_role: &str, seen: &Seen<'_>) -> Result<Run, Failure> {
        let mut figures = Vec::new();
        for measure in self.workload.measures {
            let figure = figure(measure.figure, seen, self.value)
                .map_err(|said| failure(Part::Client, client_role, Cause::Unclear(said)))?;
            figures.push(figure);
        }
        Ok(Run {
            figures,
            result: seen.result.clone(),
            client: seen.client.usage.clone(),
            server: seen.server.map(|server| ServerRun {
                result: server.result.clone(),
                usage: server.usage.clone(),
            }),
        })
    }
}

/// The failure of the server if it is why the client failed.
fn blame(client: &Actor, server: &mut Actor, cause: Cause) -> Failure {
    match server.process.failed() {
        Some(cause) => server.failure(cause),
        None => client.failure(cause),
    }
}

fn in_seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// Takes a figure, or says what it lacks.
fn figure(figure: Figure, seen: &Seen<'_>, value: u64) -> Result<f64, String> {
    match figure {
        Figure::PerSecond(count) => {
            Ok(positive(seen.result, count)? / positive(seen.result, "seconds")?)
        }
        Figure::Micros(field) => positive(seen.result, field),
        Figure::CpuNs { of, per } => {
            let seconds = positive(seen.result, "seconds")?;
            let mut cpu = seen
                .server
                .map_or(0.0, |server| server.track.busiest(seconds));
            if of == Processes::Both {
                cpu += seen.client.track.busiest(seconds);
            }
            Ok(cpu * 1e9 / positive(seen.result, per)?)
        }
        Figure::OwnCpuNs(per) => {
            Ok(positive(seen.result, "cpu_seconds")? * 1e9 / positive(seen.result, per)?)
        }
        Figure::BytesPerConnection => Ok(seen.growth / value as f64),
        Figure::ServerPeak => Ok(seen
            .server
            .map_or(0.0, |server| server.usage.peak_rss_bytes as f64)),
    }
}

/// A number of a result that must be more than none.
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
