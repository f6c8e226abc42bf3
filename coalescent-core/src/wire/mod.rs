//! The wires: how frames are encoded as bytes on a socket.
//!
//! - [`native`](Wire::native), the default, has a length prefix ([`NativeCodec`]). It is the wire
//!   between nodes of this library: with handshake, liveness, requests, and a nonce and a ttl in
//!   each broadcast.
//! - [`lines`](Wire::lines) ends each frame with `\n` ([`LinesCodec`]). Use it to talk to Node
//!   `coalescent` peers with courier, to `nc` and to shell scripts.
//! - [`raw`](Wire::raw) has no framing: each read is one frame ([`RawCodec`]). Use it to talk to
//!   Node `coalescent` peers without courier, and to pipe bytes.
//! - [`custom`](Wire::custom) uses a codec of the application. Use it for other protocols.
//!
//! A [`Wire`] names one of these; [`Wire::codec`] creates the codec of one connection. A connection
//! reads into a buffer and takes frames from it in [`Block`]s, so that consecutive frames can be
//! forwarded as one slice. Each codec also implements the `tokio_util` codec traits for
//! [`Packet`]s:
//!
//! ```
//! use bytes::BytesMut;
//! use coalescent::wire::{Kind, NativeCodec, Packet};
//! use tokio_util::codec::{Decoder, Encoder};
//!
//! let mut codec = NativeCodec::new(1024);
//! let mut bytes = BytesMut::new();
//! let packet = Packet::new(Kind::Data, "beep");
//! codec.encode(packet.clone(), &mut bytes)?;
//! assert_eq!(&bytes[..], b"\0\0\0\x06\0\0beep");
//! assert_eq!(codec.decode(&mut bytes)?, Some(packet));
//! # Ok::<(), coalescent::wire::WireError>(())
//! ```

//!
//! # The first byte of a connection
//!
//! Whoever dials speaks first on the native wire, and a server can tell from the first byte what it
//! is spoken to. This is promised, so that a mesh can share a port with HTTP:
//!
//! | first byte | what it is |
//! |---|---|
//! | `0x00` | the native wire: the length of a HELLO, 32 bits of which the first 8 are always 0 |
//! | `0x16` | TLS, with which a node that has an identity begins; HTTPS begins with it too |
//! | a letter | HTTP: the method of a request |
//!
//! The wires `lines`, `raw` and `custom` begin with whatever the application says. A server that
//! finds a peer gives the socket, with the byte still in it, to
//! [`Mesh::accept`](crate::Mesh::accept); the example `one_port` shows it.

mod codec;
mod custom;
mod error;
mod frame;
mod hello;
mod lines;
mod native;
mod node_id;
mod raw;
mod reason;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use tokio_util::codec::{Decoder, Encoder};

pub use self::codec::WireCodec;
pub use self::custom::CUSTOM_FRAMING_ALLOWANCE;
pub use self::error::WireError;
pub use self::frame::{
    Block, DEFAULT_TTL, Framing, Head, Kind, MAX_BLOCK_FRAMES, MAX_PREFIX, Packet, Status,
};
pub use self::hello::{
    AGENT_MAX, CHANNEL_NAME_MAX, Hello, HelloError, LISTEN_MAX, MAX_CHANNELS, NET_MAX, VERSION,
};
pub use self::lines::LinesCodec;
pub use self::native::{BYE_MAX, HANDSHAKE_MAX_FRAME, HELLO_MAX, NativeCodec, PING_LEN};
pub(crate) use self::native::{broadcast_prefix, reply_prefix, split_frame};
pub use self::node_id::{NodeId, ParseNodeIdError};
pub use self::raw::RawCodec;
pub use self::reason::{decode_reason, encode_reason};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The upper bound of the frame limit, in bytes. A higher limit is reduced to this one.
pub const MAX_FRAME_CEILING: usize = 1 << 30;

fn clamp_frame(max_frame: usize) -> usize {
    max_frame.min(MAX_FRAME_CEILING)
}

/// Returns whether a wire without frame kinds writes frames of this kind.
fn plain_payload(kind: Kind, wire: &'static str) -> Result<bool, WireError> {
    match kind {
        Kind::Data | Kind::Broadcast { .. } | Kind::Plain => Ok(true),
        Kind::Request { .. } => Err(WireError::unsupported("a request", wire)),
        Kind::Reply { .. } => Err(WireError::unsupported("a reply", wire)),
        Kind::Cancel { .. } => Err(WireError::unsupported("the end of a request", wire)),
        Kind::Channel { .. } => Err(WireError::unsupported("a frame of a channel", wire)),
        Kind::Hello | Kind::Ping | Kind::Pong | Kind::Bye | Kind::Unknown(_) | Kind::Nothing => {
            Ok(false)
        }
    }
}

/// A description of how frames are encoded on a socket. Cheap to clone.
///
/// Two wires are equal if they encode frames identically, so that frames read from one can be
/// forwarded on the other unchanged. A custom wire equals only its clones.
///
/// ```
/// use coalescent::wire::Wire;
///
/// assert_eq!("lines".parse(), Ok(Wire::lines()));
/// assert_eq!(Wire::default(), Wire::native());
/// assert!("telnet".parse::<Wire>().is_err());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Wire(WireKind);

#[derive(Clone, Debug, Default)]
enum WireKind {
    #[default]
    Native,
    Lines,
    Raw,
    Custom(custom::Custom),
}

impl Wire {
    /// Returns the `native` wire: length prefix, handshake, liveness, requests.
    #[must_use]
    pub fn native() -> Self {
        Self(WireKind::Native)
    }

    /// Returns the `lines` wire: one frame per line.
    #[must_use]
    pub fn lines() -> Self {
        Self(WireKind::Lines)
    }

    /// Returns the `raw` wire: bytes without framing.
    #[must_use]
    pub fn raw() -> Self {
        Self(WireKind::Raw)
    }

    /// Returns a custom wire. `make` is called once per connection, and creates a `tokio_util`
    /// codec of payloads.
    ///
    /// Like [`lines`](Wire::lines), a custom wire has no handshake, no liveness frames and no
    /// requests, and every frame is [`Kind::Plain`]. The frame limit applies to the payloads that
    /// the codec returns; the codec may leave at most [`CUSTOM_FRAMING_ALLOWANCE`] more bytes
    /// unread. Give the codec a tighter limit of its own if possible.
    ///
    /// ```
    /// use coalescent::wire::Wire;
    /// use tokio_util::codec::LengthDelimitedCodec;
    ///
    /// let wire = Wire::custom("length-delimited", LengthDelimitedCodec::new);
    /// assert_eq!(wire, wire.clone());
    /// assert_eq!(wire.to_string(), "length-delimited");
    /// ```
    pub fn custom<C, F>(name: impl Into<Arc<str>>, make: F) -> Self
    where
        F: Fn() -> C + Send + Sync + 'static,
        C: Decoder<Item: Into<Bytes>, Error: Into<BoxError>>
            + Encoder<Bytes, Error: Into<BoxError>>
            + Send
            + 'static,
    {
        Self(WireKind::Custom(custom::Custom::new(name.into(), make)))
    }

    /// Returns the name of the wire: `native`, `lines`, `raw`, or the name given to
    /// [`Wire::custom`].
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.0 {
            WireKind::Native => "native",
            WireKind::Lines => "lines",
            WireKind::Raw => "raw",
            WireKind::Custom(custom) => custom.name(),
        }
    }

    /// Returns whether a connection begins with HELLO frames. Only such a wire has frame kinds, and
    /// therefore requests, liveness frames, nonces and ttls.
    #[must_use]
    pub fn has_handshake(&self) -> bool {
        matches!(self.0, WireKind::Native)
    }

    /// Returns the framing of `payload` on an established connection, without needing the
    /// connection's codec. Returns `None` for custom wires, where only that codec can encode.
    pub(crate) fn framing(
        &self,
        max_frame: usize,
        kind: Kind,
        ttl: u8,
        payload: &[u8],
    ) -> Result<Option<Framing>, WireError> {
        match &self.0 {
            WireKind::Native => NativeCodec::new(max_frame)
                .framing(kind, ttl, payload.len())
                .map(Some),
            WireKind::Lines => LinesCodec::new(max_frame).framing(kind, payload),
            WireKind::Raw => RawCodec::new(max_frame).framing(kind),
            WireKind::Custom(_) => Ok(None),
        }
    }

    /// Creates the codec of one connection. `max_frame` is the largest payload in bytes, at most
    /// [`MAX_FRAME_CEILING`].
    #[must_use]
    pub fn codec(&self, max_frame: usize) -> WireCodec {
        match &self.0 {
            WireKind::Native => WireCodec::native(max_frame),
            WireKind::Lines => WireCodec::lines(max_frame),
            WireKind::Raw => WireCodec::raw(max_frame),
            WireKind::Custom(custom) => WireCodec::custom(custom.codec(max_frame)),
        }
    }
}

impl PartialEq for Wire {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (WireKind::Native, WireKind::Native)
            | (WireKind::Lines, WireKind::Lines)
            | (WireKind::Raw, WireKind::Raw) => true,
            (WireKind::Custom(a), WireKind::Custom(b)) => a.is(b),
            _ => false,
        }
    }
}

impl Eq for Wire {}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Wire {
    type Err = ParseWireError;

    fn from_str(name: &str) -> Result<Self, ParseWireError> {
        match name {
            "native" => Ok(Self::native()),
            "lines" => Ok(Self::lines()),
            "raw" => Ok(Self::raw()),
            _ => Err(ParseWireError(())),
        }
    }
}

/// The error of parsing an unknown wire name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseWireError(());

impl fmt::Display for ParseWireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such wire: use native, lines or raw")
    }
}

impl std::error::Error for ParseWireError {}
