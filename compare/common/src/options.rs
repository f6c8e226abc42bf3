//! The command line of the roles.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::Failed;
use crate::program::Misuse;

/// Which frames a hub relays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relay {
    /// All frames.
    Tattletale,
    /// Each frame once.
    SmartRelay,
    /// No frame: connections are only held.
    None,
}

/// What a role was asked to do. Each role reads the options that it needs and ignores the others,
/// so that all systems can be started alike.
#[derive(Clone, Debug)]
pub struct Options {
    /// The first argument.
    pub role: String,
    addr: String,
    /// `--relay tattletale|smartrelay|none`
    pub relay: Relay,
    /// The wire of the load: `native`, or `raw` for bytes without frames.
    pub wire: String,
    /// `bytes` or `typed`.
    pub payload: String,
    /// The `SmartRelay::capacity` of a hub; 0 for its default.
    pub capacity: usize,
    /// Whether connections are encrypted.
    pub tls: bool,
    /// Number of publishers.
    pub publishers: usize,
    /// Number of subscribers that read.
    pub subscribers: usize,
    /// Number of further subscribers that stop reading once they are connected.
    pub stalled: usize,
    /// Number of idle connections.
    pub connections: usize,
    /// Bytes of a payload; at least 8.
    pub size: usize,
    /// Messages a second.
    pub rate: u32,
    /// Requests in flight.
    pub in_flight: usize,
    /// Messages that one call broadcasts, where the system has a verb for many.
    pub batch: usize,
    /// Routes of the router.
    pub routes: usize,
    /// Messages in flight at most; without it, a role chooses by their size.
    pub window: Option<u64>,
    /// Nodes of a mesh.
    pub nodes: usize,
    /// Links of a node of a mesh, on average.
    pub degree: usize,
    /// Messages that are flooded through a mesh.
    pub messages: u64,
    /// The seed of the mesh's random choices.
    pub seed: u64,
    /// How long is measured.
    pub seconds: Duration,
    /// How long the role warms up before that.
    pub warmup: Duration,
}

impl Options {
    /// Reads the command line.
    ///
    /// # Errors
    ///
    /// A [`Misuse`] that says in one line what is wrong.
    pub fn from_env() -> Result<Self, Failed> {
        let mut options = Self {
            role: String::new(),
            addr: String::new(),
            relay: Relay::Tattletale,
            wire: "native".to_owned(),
            payload: "bytes".to_owned(),
            capacity: 0,
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
            window: None,
            nodes: 30,
            degree: 5,
            messages: 2000,
            seed: 1,
            seconds: Duration::from_secs(2),
            warmup: Duration::from_millis(300),
        };
        options.read(lexopt::Parser::from_env()).map_err(Misuse)?;
        Ok(options)
    }

    /// Returns where the server is.
    ///
    /// # Errors
    ///
    /// A [`Misuse`] without `--addr`.
    pub fn addr(&self) -> Result<&str, Failed> {
        if self.addr.is_empty() {
            return Err(Misuse(format!("{} needs --addr", self.role)).into());
        }
        Ok(&self.addr)
    }

    fn read(&mut self, mut parser: lexopt::Parser) -> Result<(), String> {
        while let Some(argument) = parser.next().map_err(text)? {
            match argument {
                lexopt::Arg::Value(role) if self.role.is_empty() => {
                    self.role = role.to_string_lossy().into_owned();
                }
                lexopt::Arg::Long("tls") => self.tls = true,
                lexopt::Arg::Long(name) => {
                    let name = name.to_owned();
                    let value = parser.value().map_err(text)?;
                    self.set(&name, &value.to_string_lossy())?;
                }
                other => return Err(text(other.unexpected())),
            }
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "addr" => self.addr = value.to_owned(),
            "relay" => self.relay = relay(value)?,
            "wire" => self.wire = value.to_owned(),
            "payload" => self.payload = value.to_owned(),
            "capacity" => self.capacity = number(name, value)?,
            // A payload tells its publisher in 16 bits.
            "publishers" => self.publishers = number::<usize>(name, value)?.clamp(1, 1 << 15),
            "subscribers" => self.subscribers = number::<usize>(name, value)?.max(1),
            "stalled" => self.stalled = number(name, value)?,
            "connections" => self.connections = number(name, value)?,
            "size" => self.size = number::<usize>(name, value)?.max(8),
            "rate" => self.rate = number::<u32>(name, value)?.max(1),
            "in-flight" => self.in_flight = number::<usize>(name, value)?.max(1),
            "batch" => self.batch = number::<usize>(name, value)?.max(1),
            "routes" => self.routes = number::<usize>(name, value)?.max(1),
            "window" => self.window = Some(number::<u64>(name, value)?.max(1)),
            "nodes" => self.nodes = number::<usize>(name, value)?.max(2),
            "degree" => self.degree = number(name, value)?,
            "messages" => self.messages = number::<u64>(name, value)?.max(1),
            "seed" => self.seed = number(name, value)?,
            "seconds" => self.seconds = seconds(name, value)?,
            "warmup" => self.warmup = seconds(name, value)?,
            _ => return Err(format!("there is no option --{name}")),
        }
        Ok(())
    }
}

fn relay(value: &str) -> Result<Relay, String> {
    match value {
        "tattletale" => Ok(Relay::Tattletale),
        "smartrelay" => Ok(Relay::SmartRelay),
        "none" => Ok(Relay::None),
        _ => Err(format!("no such relay: {value:?}")),
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
