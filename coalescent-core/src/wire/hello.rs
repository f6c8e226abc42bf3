#[cfg(test)]
mod tests;

use std::error::Error;
use std::fmt;

use bytes::Bytes;
use rmp::{decode, encode};

use super::{HELLO_MAX, NodeId};
use crate::message::codec::depth;
use crate::text::truncate;

/// The version of the `native` wire that this library implements.
pub const VERSION: u8 = 1;
/// The maximum length of a network name, in bytes.
pub const NET_MAX: usize = 256;
/// The maximum length of a program name in a HELLO, in bytes. A longer name is truncated.
pub const AGENT_MAX: usize = 128;
/// The maximum length of an address in a HELLO, in bytes.
pub const LISTEN_MAX: usize = 256;

/// The maximum number of channels in a HELLO.
pub const MAX_CHANNELS: usize = 16;
/// The maximum length of a channel's name, in bytes.
pub const CHANNEL_NAME_MAX: usize = 32;

/// The maximum nesting depth of the values of unknown keys.
const UNKNOWN_DEPTH: usize = 16;

/// A node's introduction: the payload of the first frame in each direction.
///
/// ```text
/// {"v": 1, "node": bin 16, "net": str, "agent": str,
///  "listen": str (optional), "seen": str (optional), "max": u32 (optional),
///  "channels": array of str (optional)}
/// ```
///
/// A MessagePack map of at most 1 KiB. Keys may come in any order; unknown keys are ignored.
///
/// ```
/// use coalescent::wire::{Hello, NodeId};
///
/// let hello = Hello::new(NodeId::random(), "chess").agent("probe/1").listen("192.0.2.7:1337");
/// assert_eq!(Hello::decode(&hello.encode()?)?, hello);
/// # Ok::<(), coalescent::wire::HelloError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hello {
    /// The id of the running node.
    pub node: NodeId,
    /// The network name. Only nodes with the same name become peers.
    pub net: String,
    /// The program and its version, for humans.
    pub agent: String,
    /// The address at which other nodes can dial this node, as `host:port`, or as `:port` for the
    /// address at which the receiver sees this node, with this port.
    pub listen: Option<String>,
    /// The `ip:port` at which this node sees the receiver.
    pub seen: Option<String>,
    /// The largest payload that this node accepts, in bytes. Peers send it nothing larger.
    pub max: Option<u32>,
    /// The names of the channels that this node knows, each with its version (`peers/1`): at most
    /// [`MAX_CHANNELS`] of at most [`CHANNEL_NAME_MAX`] bytes. A CHANNEL frame of this node names
    /// its channel by its position here.
    pub channels: Vec<String>,
}

impl Hello {
    /// Creates the introduction of `node` in the network `net`, without optional fields.
    #[must_use]
    pub fn new(node: NodeId, net: impl Into<String>) -> Self {
        Self {
            node,
            net: net.into(),
            agent: String::new(),
            listen: None,
            seen: None,
            max: None,
            channels: Vec::new(),
        }
    }

    /// Sets the program and its version.
    #[must_use]
    pub fn agent(mut self, agent: impl Into<String>) -> Self {
        self.agent = agent.into();
        self
    }

    /// Sets where other nodes can dial this node: `host:port`, or `:port`.
    #[must_use]
    pub fn listen(mut self, listen: impl Into<String>) -> Self {
        self.listen = Some(listen.into());
        self
    }

    /// Sets the `ip:port` at which this node sees the receiver.
    #[must_use]
    pub fn seen(mut self, seen: impl Into<String>) -> Self {
        self.seen = Some(seen.into());
        self
    }

    /// Sets the largest payload that this node accepts, in bytes.
    #[must_use]
    pub fn max(mut self, max: u32) -> Self {
        self.max = Some(max);
        self
    }

    /// Sets the names of the channels that this node knows.
    #[must_use]
    pub fn channels(mut self, channels: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.channels = channels.into_iter().map(Into::into).collect();
        self
    }

    /// Encodes the payload of a HELLO. An agent longer than [`AGENT_MAX`] bytes is truncated.
    ///
    /// # Errors
    ///
    /// Returns an error that [`is_too_large`](HelloError::is_too_large) if the network name exceeds
    /// [`NET_MAX`] bytes, the address [`LISTEN_MAX`] bytes, the channels [`MAX_CHANNELS`] or one of
    /// their names [`CHANNEL_NAME_MAX`] bytes, or the whole 1 KiB.
    pub fn encode(&self) -> Result<Bytes, HelloError> {
        if self.net.len() > NET_MAX {
            return Err(HelloError::too_large(
                "the network's name is over 256 bytes: choose a shorter one",
            ));
        }
        if self
            .listen
            .as_ref()
            .is_some_and(|listen| listen.len() > LISTEN_MAX)
        {
            return Err(HelloError::too_large(
                "the listen address is over 256 bytes",
            ));
        }
        if self.channels.len() > MAX_CHANNELS {
            return Err(HelloError::too_large("there are more than 16 channels"));
        }
        if !self
            .channels
            .iter()
            .all(|name| name.len() <= CHANNEL_NAME_MAX)
        {
            return Err(HelloError::too_large(
                "the name of a channel is over 32 bytes",
            ));
        }
        let mut out = Vec::with_capacity(128);
        self.write(&mut out)
            .map_err(|_| HelloError::too_large("out of memory"))?;
        if out.len() > HELLO_MAX {
            return Err(HelloError::too_large(
                "the introduction is over 1 KiB: shorten the network's name, the agent, the \
                 advertised address, or the names of the channels",
            ));
        }
        Ok(out.into())
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), encode::ValueWriteError> {
        let optional = u32::from(self.listen.is_some())
            + u32::from(self.seen.is_some())
            + u32::from(self.max.is_some())
            + u32::from(!self.channels.is_empty());
        encode::write_map_len(out, 4 + optional)?;
        encode::write_str(out, "v")?;
        encode::write_uint(out, VERSION.into())?;
        encode::write_str(out, "node")?;
        encode::write_bin(out, self.node.as_bytes())?;
        encode::write_str(out, "net")?;
        encode::write_str(out, &self.net)?;
        encode::write_str(out, "agent")?;
        encode::write_str(out, truncate(&self.agent, AGENT_MAX))?;
        if let Some(listen) = &self.listen {
            encode::write_str(out, "listen")?;
            encode::write_str(out, listen)?;
        }
        if let Some(seen) = &self.seen {
            encode::write_str(out, "seen")?;
            encode::write_str(out, seen)?;
        }
        if let Some(max) = self.max {
            encode::write_str(out, "max")?;
            encode::write_uint(out, max.into())?;
        }
        if !self.channels.is_empty() {
            encode::write_str(out, "channels")?;
            encode::write_array_len(out, self.channels.len() as u32)?;
            for name in &self.channels {
                encode::write_str(out, name)?;
            }
        }
        Ok(())
    }

    /// Decodes the payload of a HELLO.
    ///
    /// # Errors
    ///
    /// Returns an error that
    /// - [`is_too_large`](HelloError::is_too_large) if the payload exceeds 1 KiB,
    /// - [`is_version`](HelloError::is_version) if the version is not [`VERSION`], whatever the
    ///   other fields contain,
    /// - [`is_malformed`](HelloError::is_malformed) if the payload is invalid in any other way: a
    ///   missing key, a value of the wrong type, a duplicate known key, too many or too long names
    ///   of channels, or bytes after the map.
    pub fn decode(payload: &[u8]) -> Result<Self, HelloError> {
        if payload.len() > HELLO_MAX {
            return Err(HelloError::too_large("a HELLO is over 1 KiB"));
        }
        let len = depth::msgpack(payload, UNKNOWN_DEPTH)
            .map_err(|_| HelloError::malformed("it is no MessagePack"))?;
        if len != payload.len() {
            return Err(HelloError::malformed("there are bytes after the map"));
        }
        let mut rest = payload;
        let count =
            decode::read_map_len(&mut rest).map_err(|_| HelloError::malformed("it is no map"))?;
        let mut fields = Fields::default();
        // A later version may give keys other types, so a version mismatch takes precedence.
        let mut first_error = None;
        for _ in 0..count {
            let (key, value) = entry(&mut rest)?;
            if let Err(error) = fields.take(key, value) {
                first_error.get_or_insert(error);
            }
        }
        match fields.version {
            Some(version) if version != u64::from(VERSION) => {
                return Err(HelloError(HelloProblem::Version(version)));
            }
            _ => {}
        }
        if let Some(error) = first_error {
            return Err(error);
        }
        if fields.version.is_none() {
            return Err(HelloError::malformed("the key `v` is missing"));
        }
        Ok(Self {
            node: fields
                .node
                .ok_or(HelloError::malformed("the key `node` is missing"))?,
            net: fields
                .net
                .ok_or(HelloError::malformed("the key `net` is missing"))?,
            agent: fields
                .agent
                .ok_or(HelloError::malformed("the key `agent` is missing"))?,
            listen: fields.listen,
            seen: fields.seen,
            max: fields.max,
            channels: fields.channels.unwrap_or_default(),
        })
    }
}

#[derive(Default)]
struct Fields {
    version: Option<u64>,
    node: Option<NodeId>,
    net: Option<String>,
    agent: Option<String>,
    listen: Option<String>,
    seen: Option<String>,
    max: Option<u32>,
    channels: Option<Vec<String>>,
}

impl Fields {
    fn take(&mut self, key: &[u8], mut value: &[u8]) -> Result<(), HelloError> {
        let text = |value| {
            depth::msgpack_str(value)
                .map(str::to_owned)
                .ok_or(HelloError::malformed(
                    "`net`, `agent`, `listen` or `seen` is no string",
                ))
        };
        match depth::msgpack_str(key) {
            Some("v") => set(
                &mut self.version,
                decode::read_int(&mut value)
                    .map_err(|_| HelloError::malformed("`v` is no number of a version"))?,
            ),
            Some("node") => {
                let len = decode::read_bin_len(&mut value);
                match (len, <[u8; 16]>::try_from(value)) {
                    (Ok(16), Ok(bytes)) => set(&mut self.node, NodeId::from_bytes(bytes)),
                    _ => Err(HelloError::malformed("`node` is not 16 bytes of binary")),
                }
            }
            Some("net") => set(&mut self.net, text(value)?),
            Some("agent") => set(&mut self.agent, text(value)?),
            Some("listen") => set(&mut self.listen, text(value)?),
            Some("seen") => set(&mut self.seen, text(value)?),
            Some("max") => set(
                &mut self.max,
                decode::read_int(&mut value)
                    .map_err(|_| HelloError::malformed("`max` is no number of bytes"))?,
            ),
            Some("channels") => set(&mut self.channels, names(value)?),
            _ => Ok(()),
        }
    }
}

/// Reads the names of channels from an array that has been validated before.
fn names(mut value: &[u8]) -> Result<Vec<String>, HelloError> {
    let wrong = HelloError::malformed("`channels` is no array of strings");
    let count = decode::read_array_len(&mut value).map_err(|_| wrong.clone())? as usize;
    if count > MAX_CHANNELS {
        return Err(HelloError::malformed("`channels` has more than 16 names"));
    }
    let mut names = Vec::with_capacity(count);
    for _ in 0..count {
        let len = depth::msgpack(value, UNKNOWN_DEPTH).map_err(|_| wrong.clone())?;
        let (name, rest) = value.split_at_checked(len).ok_or_else(|| wrong.clone())?;
        let name = depth::msgpack_str(name).ok_or_else(|| wrong.clone())?;
        if name.len() > CHANNEL_NAME_MAX {
            return Err(HelloError::malformed(
                "the name of a channel is longer than 32 bytes",
            ));
        }
        names.push(name.to_owned());
        value = rest;
    }
    Ok(names)
}

fn set<T>(slot: &mut Option<T>, value: T) -> Result<(), HelloError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(HelloError::malformed("a key comes twice")),
    }
}

/// Splits one key and its value off the front of a map that has been validated before.
fn entry<'a>(rest: &mut &'a [u8]) -> Result<(&'a [u8], &'a [u8]), HelloError> {
    let mut next = || {
        let len = depth::msgpack(rest, UNKNOWN_DEPTH).ok()?;
        let (value, tail) = rest.split_at_checked(len)?;
        *rest = tail;
        Some(value)
    };
    next()
        .zip(next())
        .ok_or(HelloError::malformed("it is cut short"))
}

/// The error of encoding or decoding a HELLO.
#[derive(Clone, Debug)]
pub struct HelloError(HelloProblem);

#[derive(Clone, Debug)]
enum HelloProblem {
    TooLarge(&'static str),
    Version(u64),
    Malformed(&'static str),
}

impl HelloError {
    fn too_large(what: &'static str) -> Self {
        Self(HelloProblem::TooLarge(what))
    }

    fn malformed(what: &'static str) -> Self {
        Self(HelloProblem::Malformed(what))
    }

    /// Returns whether the HELLO exceeds 1 KiB, or one of its fields its own limit.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        matches!(self.0, HelloProblem::TooLarge(_))
    }

    /// Returns whether the peer speaks another version of the wire.
    #[must_use]
    pub fn is_version(&self) -> bool {
        matches!(self.0, HelloProblem::Version(_))
    }

    /// Returns whether the bytes are not a valid HELLO.
    #[must_use]
    pub fn is_malformed(&self) -> bool {
        matches!(self.0, HelloProblem::Malformed(_))
    }
}

impl fmt::Display for HelloError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            HelloProblem::TooLarge(what) => f.write_str(what),
            HelloProblem::Version(theirs) => {
                write!(
                    f,
                    "the peer speaks version {theirs} of the wire, this node version {VERSION}"
                )
            }
            HelloProblem::Malformed(what) => write!(f, "malformed HELLO: {what}"),
        }
    }
}

impl Error for HelloError {}
