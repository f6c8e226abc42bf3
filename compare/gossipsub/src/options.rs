//! The command line of the roles.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

const ROLES: [&str; 5] = ["hub", "load", "latency", "idle", "mesh"];

/// What a role was asked to do; each role looks at what it needs.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The first argument.
    pub(crate) role: String,
    /// Where the hub is, for clients.
    pub(crate) addr: String,
    /// Whether connections are encrypted.
    pub(crate) tls: bool,
    /// How many publish.
    pub(crate) publishers: usize,
    /// How many are to hear it.
    pub(crate) subscribers: usize,
    /// How many of the subscribers stop reading once they are connected.
    pub(crate) stalled: usize,
    /// How many connections are held.
    pub(crate) connections: usize,
    /// How many bytes a payload has.
    pub(crate) size: usize,
    /// Messages a second.
    pub(crate) rate: u32,
    /// How many messages may be under way; chosen by their size if it is left out.
    pub(crate) window: Option<u64>,
    /// Nodes of a mesh.
    pub(crate) nodes: usize,
    /// Links of each node, on average.
    pub(crate) degree: usize,
    /// How many messages are sent in all.
    pub(crate) messages: u64,
    /// What fixes the shape of a mesh.
    pub(crate) seed: u64,
    /// How long is measured.
    pub(crate) seconds: Duration,
    /// How long is not, before that.
    pub(crate) warmup: Duration,
}

impl Options {
    /// Reads the command line, or says in a line what is wrong with it.
    pub(crate) fn from_env() -> Result<Self, String> {
        let mut options = Self {
            role: String::new(),
            addr: String::new(),
            tls: false,
            publishers: 1,
            subscribers: 8,
            stalled: 0,
            connections: 1000,
            size: 64,
            rate: 1000,
            window: None,
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
        if !ROLES.contains(&options.role.as_str()) {
            let roles = ROLES.join(", ");
            return Err(format!("the first argument is one of {roles}"));
        }
        if options.stalled >= options.subscribers {
            return Err("--stalled leaves no subscriber that reads".to_owned());
        }
        if options.addr.is_empty() && !["hub", "mesh"].contains(&options.role.as_str()) {
            return Err(format!("{} needs --addr", options.role));
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "addr" => self.addr = value.to_owned(),
            "relay" if ["tattletale", "smartrelay"].contains(&value) => {}
            "relay" => return Err(format!("--relay is no {value:?}")),
            "publishers" => self.publishers = number::<usize>(name, value)?.clamp(1, 1 << 15),
            "subscribers" => self.subscribers = number::<usize>(name, value)?.max(1),
            "stalled" => self.stalled = number(name, value)?,
            "connections" => self.connections = number(name, value)?,
            "size" => self.size = number::<usize>(name, value)?.max(8),
            "rate" => self.rate = number::<u32>(name, value)?.max(1),
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
