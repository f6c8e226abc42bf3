//! What a bridge needs of the system on its other side.

use bytes::Bytes;
use coalescent_core::BoxError;
use futures_core::Stream;
use futures_sink::Sink;

/// A message that crosses a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The nonce of the broadcast in its mesh. With the payload it is the message's identity, by
    /// which relays and bridges know copies of it: an engine carries it, in a header if it has
    /// any, and does not change it.
    pub nonce: u64,
    /// The payload.
    pub payload: Bytes,
}

/// What a bridge gives to its engine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Said {
    /// A message for everybody who listens there.
    Message(Carried),
    /// A note of at most [`NOTE_MAX`] bytes for other bridges, which nobody else should get: a
    /// subject, topic or channel of their own carries it.
    Note(Bytes),
}

/// The maximum length of a note, in bytes.
pub const NOTE_MAX: usize = 128;

/// What a bridge gets from its engine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Heard {
    /// A message. What this bridge has said itself comes back as well, and confirms that it was
    /// taken.
    Message {
        /// The nonce that it was said with; `None` if no bridge has said it.
        nonce: Option<u64>,
        /// The payload.
        payload: Bytes,
    },
    /// A note of a bridge; of this one too, if that is simpler.
    Note(Bytes),
    /// The engine can be reached, for the first time or again: what is said from now on reaches
    /// those who listen by now. What was said before and is not confirmed may be lost.
    Up,
    /// The engine cannot be reached for now.
    Down,
    /// So many messages were not given to this bridge, since it was too slow.
    Missed(u64),
}

/// The other side of a bridge: a [`Sink`] of what is said there, and a [`Stream`] of what is heard.
///
/// Every type that is both is an engine. `nats.rs` shows how little it takes; Kafka, MQTT or Redis
/// need the same five things:
///
/// 1. `start_send` of a [`Said::Message`] publishes it, with the nonce in a header, or before the
///    payload where there are no headers. An error there means that this message cannot be carried,
///    for instance since it is too large: it is dropped and counted.
/// 2. `start_send` of a [`Said::Note`] publishes it where only bridges listen.
/// 3. The stream yields what is published in both places, this bridge's own messages included.
/// 4. The stream says [`Heard::Up`] and [`Heard::Down`] when the connection comes and goes. It
///    makes the connection again by itself.
/// 5. `poll_ready` waits as long as the engine takes nothing, and fails only when it never will
///    again. So does the stream: its end is the end of the bridge.
///
/// The bridge does the rest: it holds back and repeats what is not confirmed, drops copies, and
/// shares the work with other bridges.
pub trait Engine:
    Sink<Said, Error: Into<BoxError>> + Stream<Item = Heard> + Send + Unpin + 'static
{
}

impl<T> Engine for T where
    T: Sink<Said, Error: Into<BoxError>> + Stream<Item = Heard> + Send + Unpin + 'static
{
}
