//! The command line of the roles.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What a role was asked to do; each role looks at what it needs.
#[derive(Clone, Debug)]
pub struct Options {
    /// The first argument.
    pub role: String,
    /// Where the server is, for clients.
    pub addr: String,
    /// `tattletale`, `smartrelay`, or `none`: connections are only held.
    pub relay: String,
    /// `native`, `lines` or `raw`.
    pub wire: String,
    /// `bytes` or `typed`.
    pub payload: String,
    /// How many messages a smart relay remembers; 0 for as many as it does by default.
    pub window: usize,
    /// Whether connections are encrypted.
    pub tls: bool,
    /// How many publish.
    pub publishers: usize,
    /// How many are to hear it.
    pub subscribers: usize,
    /// How many of the subscribers never read.
    pub stalled: usize,
    /// How many connections are held.
    pub connections: usize,
    /// How many bytes a payload has.
    pub size: usize,
    /// Messages a second.
    pub rate: u32,
    /// Requests that wait for their reply at a time.
    pub in_flight: usize,
    /// How many messages are given to one call of `broadcast`, where the system has a verb for
    /// many.
    pub batch: usize,
    /// How many routes the router has.
    pub routes: usize,
    /// Nodes of a mesh.
    pub nodes: usize,
    /// Links of each node, on average.
    pub degree: usize,
    /// How many messages are sent in all.
    pub messages: usize,
    /// What fixes the shape of a mesh.
    pub seed: u64,
    /// How long is measured.
    pub seconds: Duration,
    /// How long is not, before that.
    pub warmup: Duration,
}

impl Options {
    /// Reads the command line.
    ///
    /// # Errors
    ///
    /// One line that says what is wrong with it.
    pub fn from_env() -> Result<Self, String> {
        let mut options = Self {
            role: String::new(),
            addr: String::new(),
            relay: "tattletale".to_owned(),
            wire: "native".to_owned(),
            payload: "bytes".to_owned(),
            window: 0,
            tls: false,
            publishers: 1,
            subscribers: 8,
            stalled: 0,
            connections: 1000,
            size: 64,
            rate: 1000,
            in_flight: 1,
            batch: 512,
            routes: 1,
            nodes: 30,
            degree: 5,
            messages: 2000,
            seed: 1,
            seconds: Duration::from_secs(2),
            warmup: Duration::from_millis(300),
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next().map_err(text)? {
            match argument {
                lexopt::Arg::Value(role) if options.role.is_empty() => {
                    options.role = role.to_string_lossy().into_owned();
                }
                lexopt::Arg::Long("tls") => options.tls = true,
                lexopt::Arg::Long(name) => {
                    let name = name.to_owned();
                    let value = parser.value().map_err(text)?;
                    options.set(&name, &value.to_string_lossy())?;
                }
                other => return Err(text(other.unexpected())),
            }
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "addr" => self.addr = value.to_owned(),
            "relay" => self.relay = value.to_owned(),
            "wire" => self.wire = value.to_owned(),
            "payload" => self.payload = value.to_owned(),
            "window" => self.window = number(name, value)?,
            "publishers" => self.publishers = number(name, value)?,
            "subscribers" => self.subscribers = number(name, value)?,
            "stalled" => self.stalled = number(name, value)?,
            "connections" => self.connections = number(name, value)?,
            "size" => self.size = number::<usize>(name, value)?.max(8),
            "rate" => self.rate = number::<u32>(name, value)?.max(1),
            "in-flight" => self.in_flight = number::<usize>(name, value)?.max(1),
            "batch" => self.batch = number::<usize>(name, value)?.max(1),
            "routes" => self.routes = number::<usize>(name, value)?.max(1),
            "nodes" => self.nodes = number::<usize>(name, value)?.max(2),
            "degree" => self.degree = number(name, value)?,
            "messages" => self.messages = number(name, value)?,
            "seed" => self.seed = number(name, value)?,
            "seconds" => self.seconds = seconds(name, value)?,
            "warmup" => self.warmup = seconds(name, value)?,
            _ => return Err(format!("there is no option --{name}")),
        }
        Ok(())
    }
}

fn number<T: FromStr>(name: &str, value: &str) -> Result<T, String> {
    value
        .parse()
        .map_err(|_| format!("--{name} takes a number, not {value:?}"))
}

fn seconds(name: &str, value: &str) -> Result<Duration, String> {
    Duration::try_from_secs_f64(number(name, value)?)
        .ok()
        .filter(|time| *time <= Duration::from_secs(600))
        .ok_or_else(|| format!("--{name} takes seconds, from 0 to 600"))
}

fn text(error: impl fmt::Display) -> String {
    error.to_string()
}
