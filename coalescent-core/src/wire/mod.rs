//! Frames as bytes on a socket.
//!
//! | wire | a frame ends | for |
//! |---|---|---|
//! | [`native`](Wire::native), the default | by its length prefix ([`NativeCodec`]) | peers of this library: handshake, liveness, requests, a nonce and a ttl in each broadcast |
//! | [`lines`](Wire::lines) | with `\n` ([`LinesCodec`]) | Node `coalescent` peers with courier, `nc`, shell scripts |
//! | [`raw`](Wire::raw) | nowhere: it is what there was to read ([`RawCodec`]) | Node `coalescent` peers without courier, piping bytes |
//! | [`custom`](Wire::custom) | as a codec of the application says | other protocols |
//!
//! A [`Wire`] describes one of these; [`Wire::codec`] makes the state of one connection. A
//! connection reads into a buffer and takes frames out of it in [`Block`]s, so that neighbours can
//! be forwarded as one slice. The codecs are also plain `tokio_util` codecs of [`Packet`]s:
//!
//! ```
//! use bytes::{Bytes, BytesMut};
//! use coalescent_core::wire::{Kind, NativeCodec, Packet};
//! use tokio_util::codec::{Decoder, Encoder};
//!
//! let mut codec = NativeCodec::new(1024);
//! let mut bytes = BytesMut::new();
//! let packet = Packet { kind: Kind::Data, ttl: 0, payload: Bytes::from_static(b"beep") };
//! codec.encode(packet.clone(), &mut bytes)?;
//! assert_eq!(&bytes[..], b"\0\0\0\x06\0\0beep");
//! assert_eq!(codec.decode(&mut bytes)?, Some(packet));
//! # Ok::<(), coalescent_core::wire::WireError>(())
//! ```

mod codec;
mod custom;
mod error;
mod frame;
mod hello;
mod lines;
mod native;
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
pub use self::frame::{Block, Framing, Head, Kind, MAX_BLOCK_FRAMES, MAX_PREFIX, Packet, Status};
pub use self::hello::{
    AGENT_MAX, Hello, HelloError, LISTEN_MAX, NET_MAX, NodeId, ParseNodeIdError, VERSION,
};
pub use self::lines::LinesCodec;
pub use self::native::{BYE_MAX, HANDSHAKE_MAX_FRAME, HELLO_MAX, NativeCodec, PING_LEN};
pub(crate) use self::native::{broadcast_prefix, reply_prefix, split_frame};
pub use self::raw::RawCodec;
pub use self::reason::{decode_reason, encode_reason};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The highest frame limit there is, in bytes: a higher one is taken as this.
pub const MAX_FRAME_CEILING: usize = 1 << 30;

fn clamp_frame(max_frame: usize) -> usize {
    max_frame.min(MAX_FRAME_CEILING)
}

/// Tells whether a wire of plain payloads writes frames of this kind.
fn plain_payload(kind: Kind, wire: &'static str) -> Result<bool, WireError> {
    match kind {
        Kind::Data | Kind::Broadcast { .. } | Kind::Plain => Ok(true),
        Kind::Request { .. } => Err(WireError::unsupported("a request", wire)),
        Kind::Reply { .. } => Err(WireError::unsupported("a reply", wire)),
        Kind::Cancel { .. } => Err(WireError::unsupported("the end of a request", wire)),
        Kind::Hello | Kind::Ping | Kind::Pong | Kind::Bye | Kind::Unknown(_) | Kind::Nothing => {
            Ok(false)
        }
    }
}

/// Describes how frames stand on a socket; cheap to clone.
///
/// Two wires are equal if they carry frames byte for byte alike, so that frames read from one can
/// be forwarded on the other as they stand. An application's own wire is equal to its clones alone.
///
/// ```
/// use coalescent_core::wire::Wire;
///
/// assert_eq!("lines".parse(), Ok(Wire::lines()));
/// assert_eq!(Wire::default(), Wire::native());
/// assert!("telnet".parse::<Wire>().is_err());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Wire(Inner);

#[derive(Clone, Debug, Default)]
enum Inner {
    #[default]
    Native,
    Lines,
    Raw,
    Custom(custom::Custom),
}

impl Wire {
    /// Describes the `native` wire: a length prefix, handshake, liveness, requests.
    #[must_use]
    pub fn native() -> Self {
        Self(Inner::Native)
    }

    /// Describes the `lines` wire: one frame a line.
    #[must_use]
    pub fn lines() -> Self {
        Self(Inner::Lines)
    }

    /// Describes the `raw` wire: bytes without frames.
    #[must_use]
    pub fn raw() -> Self {
        Self(Inner::Raw)
    }

    /// Describes a wire of the application's own: `make` is called once for each connection, and
    /// makes a `tokio_util` codec of payloads.
    ///
    /// Such a wire is used like [`lines`](Wire::lines): no handshake, no liveness frames, no
    /// requests, every frame [`Kind::Plain`]. The frame limit holds for the payloads that the codec
    /// makes, and it may keep at most [`CUSTOM_FRAMING_ALLOWANCE`] more bytes unread; give it a
    /// tighter limit of its own if it can have one.
    ///
    /// ```
    /// use coalescent_core::wire::Wire;
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
        Self(Inner::Custom(custom::Custom::new(name.into(), make)))
    }

    /// Returns the wire's name: `native`, `lines`, `raw`, or what the application called its own.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.0 {
            Inner::Native => "native",
            Inner::Lines => "lines",
            Inner::Raw => "raw",
            Inner::Custom(custom) => custom.name(),
        }
    }

    /// Tells whether a connection begins with HELLO frames. Only such a wire has kinds of frames,
    /// and so requests, liveness frames, nonces and ttls.
    #[must_use]
    pub fn has_handshake(&self) -> bool {
        matches!(self.0, Inner::Native)
    }

    /// Returns the bytes to write around `payload` once the peer has introduced itself, without a
    /// codec; `None` where only the connection's own can tell.
    pub(crate) fn framing(
        &self,
        max_frame: usize,
        kind: Kind,
        ttl: u8,
        payload: &[u8],
    ) -> Result<Option<Framing>, WireError> {
        match &self.0 {
            Inner::Native => NativeCodec::new(max_frame)
                .framing(kind, ttl, payload.len())
                .map(Some),
            Inner::Lines => LinesCodec::new(max_frame).framing(kind, payload),
            Inner::Raw => RawCodec::new(max_frame).framing(kind),
            Inner::Custom(_) => Ok(None),
        }
    }

    /// Makes the codec of one connection. `max_frame` is the limit of a payload in bytes, at most
    /// [`MAX_FRAME_CEILING`].
    #[must_use]
    pub fn codec(&self, max_frame: usize) -> WireCodec {
        match &self.0 {
            Inner::Native => WireCodec::native(max_frame),
            Inner::Lines => WireCodec::lines(max_frame),
            Inner::Raw => WireCodec::raw(max_frame),
            Inner::Custom(custom) => WireCodec::custom(custom.codec(max_frame)),
        }
    }
}

impl PartialEq for Wire {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Inner::Native, Inner::Native)
            | (Inner::Lines, Inner::Lines)
            | (Inner::Raw, Inner::Raw) => true,
            (Inner::Custom(a), Inner::Custom(b)) => a.is(b),
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

/// Reports a name that is no wire's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseWireError(());

impl fmt::Display for ParseWireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such wire: use native, lines or raw")
    }
}

impl std::error::Error for ParseWireError {}
