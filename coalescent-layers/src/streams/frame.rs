//! The frames of the channel, as bytes.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

/// The channel of streams.
pub const CHANNEL: &str = "streams/1";

/// The most bytes of a stream's name: 64. It has at least one.
pub const MAX_NAME: usize = 64;

/// The most bytes of the reason of a reset: 256. A longer one is cut.
pub const MAX_REASON: usize = 256;

/// The length of the fields that every frame begins with: kind and stream.
pub(super) const HEAD: usize = 5;

/// Set in the number of a stream that the receiver of the frame has opened.
const RECEIVERS: u32 = 1 << 31;

/// The greatest number of a stream.
pub(super) const LAST_NUMBER: u32 = RECEIVERS - 1;

const OPEN: u8 = 0x00;
const DATA: u8 = 0x01;
const END: u8 = 0x02;
const RESET: u8 = 0x03;
const CREDIT: u8 = 0x04;
const PLACES: u8 = 0x05;

// One bit says it on the wire, so there is no third.
/// Which side opened a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Opener {
    /// The sender of the frame.
    Sender,
    /// The receiver of the frame.
    Receiver,
}

// These two are the 32 bits of it on the wire, so there is no place for more.
/// The number of a stream in a frame: of those that one side has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamId {
    /// The side that opened it.
    pub opener: Opener,
    /// Its number among those of that side, from 1 on.
    pub number: u32,
}

/// A frame of the channel [`CHANNEL`].
///
/// ```text
///  0      1        5
///  +------+--------+---------------------+
///  | kind | stream | fields of this kind |
///  +------+--------+---------------------+
///    u8     u32 BE
///
///  00 OPEN    credit: u32, name: 1 to 64 bytes of UTF-8
///  01 DATA    bytes: at least one
///  02 END     nothing
///  03 RESET   reason: at most 256 bytes of UTF-8
///  04 CREDIT  bytes: u32, at least 1
///  05 PLACES  streams: u32, at least 1; `stream` is 0
///
///  stream
///   31 30                              0
///  +--+--------------------------------+
///  |r |  number, from 1 on             |   r: 0 = the sender opened it, 1 = the receiver did
///  +--+--------------------------------+
/// ```
///
/// Integers are big-endian. Each side numbers the streams that it opens 1, 2, 3 and so on.
///
/// - OPEN opens a stream in both directions, and gives the other side credit for its direction. The
///   other side accepts with a CREDIT, or refuses with a RESET. A side may have opened 32 streams,
///   and one more for each place that PLACES has given it since.
/// - DATA carries bytes, no more than there is credit for. END ends the sender's direction: neither
///   DATA nor END follows.
/// - RESET ends the sender's direction if END has not, and asks the other side to end its own; it
///   is answered with a RESET (of an empty reason) by a side that has sent neither END nor RESET.
///   Nothing follows it. What came before it may still be read.
/// - A stream is over for a side that has sent END or RESET and received END or RESET. CREDIT and
///   RESET for a stream that is over are ignored, since they may have crossed its end.
///
/// Everything else is a fault: frames that are not of this form, streams that were never opened or
/// are not opened in order, more streams than places, more bytes than credit, more credit than
/// [`MAX_CREDIT`](super::MAX_CREDIT), more places than [`MAX_STREAMS`](super::MAX_STREAMS), and
/// DATA or END after END or RESET.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamFrame {
    /// Opens a stream.
    Open {
        /// The stream, whose opener is the sender.
        stream: StreamId,
        /// How many bytes the receiver of the frame may send.
        credit: u32,
        /// What it is for.
        name: String,
    },
    /// Carries bytes.
    Data {
        /// The stream.
        stream: StreamId,
        /// The bytes.
        bytes: Bytes,
    },
    /// Ends the direction of the sender.
    End {
        /// The stream.
        stream: StreamId,
    },
    /// Ends both directions.
    Reset {
        /// The stream.
        stream: StreamId,
        /// Why, which is empty in an answer to a reset.
        reason: String,
    },
    /// Gives credit.
    Credit {
        /// The stream.
        stream: StreamId,
        /// How many more bytes the receiver of the frame may send.
        bytes: u32,
    },
    /// Gives places.
    Places {
        /// How many more streams the receiver of the frame may open.
        streams: u32,
    },
}

/// Says why bytes are no frame of the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamFrameError(&'static str);

impl fmt::Display for StreamFrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for StreamFrameError {}

impl StreamId {
    fn to_wire(self) -> u32 {
        match self.opener {
            Opener::Sender => self.number,
            Opener::Receiver => self.number | RECEIVERS,
        }
    }

    fn from_wire(wire: u32) -> Result<Self, StreamFrameError> {
        let number = wire & LAST_NUMBER;
        if number == 0 {
            return Err(StreamFrameError("a stream without a number"));
        }
        let opener = if wire & RECEIVERS == 0 {
            Opener::Sender
        } else {
            Opener::Receiver
        };
        Ok(Self { opener, number })
    }
}

impl StreamFrame {
    /// Encodes the frame. Names and reasons that are too long are cut.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        match self {
            Self::Open {
                stream,
                credit,
                name,
            } => {
                head(&mut bytes, OPEN, stream.to_wire());
                bytes.put_u32(*credit);
                bytes.put_slice(cut(name, MAX_NAME).as_bytes());
            }
            Self::Data {
                stream,
                bytes: data,
            } => {
                bytes = data_head(*stream, data.len());
                bytes.put_slice(data);
            }
            Self::End { stream } => head(&mut bytes, END, stream.to_wire()),
            Self::Reset { stream, reason } => {
                head(&mut bytes, RESET, stream.to_wire());
                bytes.put_slice(cut(reason, MAX_REASON).as_bytes());
            }
            Self::Credit {
                stream,
                bytes: more,
            } => {
                head(&mut bytes, CREDIT, stream.to_wire());
                bytes.put_u32(*more);
            }
            Self::Places { streams } => {
                head(&mut bytes, PLACES, 0);
                bytes.put_u32(*streams);
            }
        }
        bytes.freeze()
    }

    /// Decodes a frame. The bytes of a DATA are not copied.
    ///
    /// # Errors
    ///
    /// If the bytes are not of the form that is described [above](StreamFrame).
    pub fn decode(mut payload: Bytes) -> Result<Self, StreamFrameError> {
        let Some((kind, wire)) = payload
            .split_first_chunk::<HEAD>()
            .map(|([kind, a, b, c, d], _)| (*kind, u32::from_be_bytes([*a, *b, *c, *d])))
        else {
            return Err(StreamFrameError("a frame without a kind and a stream"));
        };
        let fields = payload.split_off(HEAD);
        if kind == PLACES {
            if wire != 0 {
                return Err(StreamFrameError("places for one stream"));
            }
            let streams = count(&fields)?;
            return Ok(Self::Places { streams });
        }
        let stream = StreamId::from_wire(wire)?;
        match kind {
            OPEN => {
                let Some((credit, name)) = fields.split_first_chunk() else {
                    return Err(StreamFrameError("an OPEN without credit"));
                };
                if stream.opener == Opener::Receiver {
                    return Err(StreamFrameError("an OPEN of the receiver's own stream"));
                }
                Ok(Self::Open {
                    stream,
                    credit: u32::from_be_bytes(*credit),
                    name: text(name, 1, MAX_NAME)?,
                })
            }
            DATA if fields.is_empty() => Err(StreamFrameError("a DATA without bytes")),
            DATA => Ok(Self::Data {
                stream,
                bytes: fields,
            }),
            END if !fields.is_empty() => Err(StreamFrameError("an END with bytes")),
            END => Ok(Self::End { stream }),
            RESET => Ok(Self::Reset {
                stream,
                reason: text(&fields, 0, MAX_REASON)?,
            }),
            CREDIT => Ok(Self::Credit {
                stream,
                bytes: count(&fields)?,
            }),
            _ => Err(StreamFrameError("a frame of an unknown kind")),
        }
    }
}

/// Begins a DATA frame, to which up to `room` bytes will be appended.
pub(super) fn data_head(stream: StreamId, room: usize) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(HEAD.saturating_add(room));
    head(&mut bytes, DATA, stream.to_wire());
    bytes
}

fn head(bytes: &mut BytesMut, kind: u8, stream: u32) {
    bytes.put_u8(kind);
    bytes.put_u32(stream);
}

fn count(fields: &[u8]) -> Result<u32, StreamFrameError> {
    match fields.try_into().map(u32::from_be_bytes) {
        Ok(0) | Err(_) => Err(StreamFrameError("no count above 0")),
        Ok(count) => Ok(count),
    }
}

fn text(bytes: &[u8], least: usize, most: usize) -> Result<String, StreamFrameError> {
    if !(least..=most).contains(&bytes.len()) {
        return Err(StreamFrameError("a text of a length that is not allowed"));
    }
    let text = std::str::from_utf8(bytes);
    text.map(str::to_owned)
        .map_err(|_| StreamFrameError("a text that is not UTF-8"))
}

/// Returns the beginning of a text, of at most `most` bytes.
pub(super) fn cut(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default()
}
