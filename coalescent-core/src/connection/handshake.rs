//! The handshake: two nodes introduce themselves with a HELLO each, on wires that have one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::introduction::{dialable, own_hello};
use super::scarce::Scarce;
use crate::error::{BoxError, Error, report};
use crate::node::peer::seat::Seat;
use crate::node::peer::{Endpoint, Introduction};
use crate::node::{Node, Refusal};
use crate::reason::Goodbye;
use crate::text::Escaped;
use crate::transport::Direction;
use crate::transport::foreign::{Spoken, spoken};
use crate::transport::identity::PublicKey;
use crate::wire::{Block, Hello, Kind, Wire, WireCodec, WireError, decode_reason, encode_reason};

/// How many bytes are read at a time before the peer has introduced itself.
const READ: usize = 1024;

/// How long a refused peer has to read the reason.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// How many bytes from a refused peer are read and discarded, so that it can read the reason.
const LINGER_BYTES: usize = 256 * 1024;

/// How many bytes from a connected peer are read and discarded at the end, so that the connection
/// is not reset: more than the peer can have had under way, in its own buffers too.
pub(super) const DISCARD_MAX: usize = 64 * 1024 * 1024;

/// A connection whose peer has introduced itself.
#[derive(Debug)]
pub(super) struct Introduced<IO> {
    pub(super) io: IO,
    pub(super) codec: WireCodec,
    /// Bytes that were read beyond the introduction and the frames in `block`.
    pub(super) buf: BytesMut,
    /// Frames that were decoded together with the introduction.
    pub(super) block: Option<Block>,
    pub(super) intro: Introduction,
}

/// Exchanges introductions with the peer at the other end of `io`, if its wire has a handshake.
///
/// # Errors
///
/// If the peer does not answer in time, speaks another wire, or belongs to another network.
pub(super) async fn introduce<IO>(
    mut io: IO,
    node: &Node,
    wire: Wire,
    origin: Endpoint,
    key: Option<PublicKey>,
    listen: Option<String>,
    seat: Option<&dyn Seat>,
) -> Result<Introduced<IO>, Error>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let config = node.config();
    let mut codec = wire.codec(config.max_frame);
    codec.clamp_ttl(config.ttl);
    let (seen_at, direction) = (origin.addr, origin.direction);
    let mut intro = Introduction {
        key,
        node_id: None,
        agent: None,
        listen: None,
        seen: None,
        channels: Vec::new(),
        max_payload: None,
        wire: wire.clone(),
        origin,
    };
    let mut buf = BytesMut::new();
    if !wire.has_handshake() {
        return Ok(Introduced {
            io,
            codec,
            buf,
            block: None,
            intro,
        });
    }
    let hello = own_hello(node, listen, seen_at);
    let scarce = Scarce::of(node, seat, direction, key);
    let exchange = exchange(&mut io, node, &mut codec, &mut buf, hello, scarce);
    let limit = config.handshake_timeout;
    let timeout = |_| Err(Failure::Fatal(Error::handshake_timeout(limit)));
    let exchanged = tokio::time::timeout(limit, exchange).await;
    let (hello, block) = match exchanged.unwrap_or_else(timeout) {
        Ok(introduction) => introduction,
        Err(failure) => {
            match &failure {
                Failure::Refused { bye, .. } => refuse(&mut io, &mut codec, bye).await,
                Failure::Full => dismiss(&mut io, &mut codec, &Goodbye::BUSY),
                Failure::Unsaid(_) | Failure::Fatal(_) => {}
            }
            return Err(failure.into_error(direction, intro.key.is_some()));
        }
    };
    codec.established();
    intro.node_id = Some(hello.node);
    intro.agent = Some(hello.agent);
    intro.listen = hello.listen.and_then(|listen| dialable(listen, seen_at));
    intro.seen = hello.seen.and_then(|seen| seen.parse().ok());
    intro.channels = hello.channels;
    intro.max_payload = hello.max.map(|max| max as usize);
    Ok(Introduced {
        io,
        codec,
        buf,
        block,
        intro,
    })
}

/// Why an exchange failed.
enum Failure {
    /// The connection ended before the peer sent anything.
    Unsaid(io::Error),
    /// The peer is not told.
    Fatal(Error),
    /// There is no place for the peer, which is told so.
    Full,
    /// The peer is told so with a BYE of these words.
    Refused { error: Error, bye: String },
}

impl Failure {
    fn protocol(text: String) -> Self {
        Self::Refused {
            error: Error::handshake(text.clone()),
            bye: text,
        }
    }

    fn fatal(error: impl Into<BoxError>) -> Self {
        Self::Fatal(Error::handshake(error))
    }

    /// Returns the failure of a peer whose first bytes are no frame, for this reason.
    fn no_frame(first: &[u8], error: &WireError) -> Self {
        match spoken(first).and_then(Spoken::to_plain) {
            Some(foreign) => Self::protocol(foreign.to_owned()),
            None => Self::protocol(report(error).to_string()),
        }
    }

    /// Returns the error. `has_key` says that the peer has proven a key.
    fn into_error(self, direction: Direction, has_key: bool) -> Error {
        match self {
            Self::Refused { error, .. } | Self::Fatal(error) => error,
            Self::Full => Error::refused(Refusal::Full.words()),
            Self::Unsaid(error) if has_key => Error::handshake(error),
            Self::Unsaid(error) => match direction {
                Direction::Inbound => Error::unsaid(error),
                Direction::Outbound => Error::unanswered(error),
            },
        }
    }

    /// Returns the failure of a connection that broke, `heard` if the peer had sent anything.
    fn broken(error: io::Error, heard: bool) -> Self {
        if heard {
            Self::fatal(error)
        } else {
            Self::Unsaid(error)
        }
    }
}

/// Sends this node's HELLO, and receives the peer's. Returns it with the frames behind it. If
/// places are `scarce`, it receives first.
async fn exchange<IO>(
    io: &mut IO,
    node: &Node,
    codec: &mut WireCodec,
    buf: &mut BytesMut,
    own: Hello,
    scarce: Option<Scarce<'_>>,
) -> Result<(Hello, Option<Block>), Failure>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let sent = match scarce {
        Some(_) => Ok(()),
        None => send_hello(io, codec, &own).await,
    };
    let mut block = match sent {
        Ok(()) => read_block(io, codec, buf).await?,
        Err(failure) => refusal(io, codec, buf).await.ok_or(failure)?,
    };
    let Some(&(offset, head)) = block.heads.first() else {
        return Err(Failure::protocol("nothing was said".to_owned()));
    };
    let hello = accept_hello(node, head.kind, &block.payload(offset, &head))?;
    if let Some(scarce) = scarce {
        if !scarce.has_place(&hello) {
            return Err(Failure::Full);
        }
        send_hello(io, codec, &own).await?;
    }
    block.heads.remove(0);
    let rest = (!block.heads.is_empty()).then_some(block);
    Ok((hello, rest))
}

async fn send_hello<IO>(io: &mut IO, codec: &mut WireCodec, hello: &Hello) -> Result<(), Failure>
where
    IO: AsyncWrite + Unpin,
{
    let hello = hello.encode().map_err(Failure::fatal)?;
    let mut out = BytesMut::new();
    codec
        .encode(Kind::Hello, 0, &hello, &mut out)
        .map_err(Failure::fatal)?;
    let unsaid = |error| Failure::broken(error, false);
    io.write_all(&out).await.map_err(unsaid)?;
    io.flush().await.map_err(unsaid)
}

/// Returns the BYE of a peer that has closed the connection without reading.
async fn refusal<IO>(io: &mut IO, codec: &mut WireCodec, buf: &mut BytesMut) -> Option<Block>
where
    IO: AsyncRead + Unpin,
{
    let block = read_block(io, codec, buf).await.ok()?;
    let first = block.heads.first().map(|(_, head)| head.kind);
    (first == Some(Kind::Bye)).then_some(block)
}

/// Reads until the first frame is whole.
async fn read_block<IO>(
    io: &mut IO,
    codec: &mut WireCodec,
    buf: &mut BytesMut,
) -> Result<Block, Failure>
where
    IO: AsyncRead + Unpin,
{
    let mut block = Block::new();
    let mut heard = false;
    loop {
        // One frame at a time: the frames behind the introduction have other limits.
        match codec.next_block(buf, &mut block) {
            Ok(true) => return Ok(block),
            Ok(false) => {}
            Err(error) => return Err(Failure::no_frame(buf, &error)),
        }
        buf.reserve(READ);
        match io.read_buf(buf).await {
            Ok(0) => return Err(Failure::broken(io::ErrorKind::UnexpectedEof.into(), heard)),
            Ok(_) => heard = true,
            Err(error) => return Err(Failure::broken(error, heard)),
        }
    }
}

/// Checks the first frame of a peer, which must be the HELLO of a node in the same network.
fn accept_hello(node: &Node, kind: Kind, payload: &[u8]) -> Result<Hello, Failure> {
    match kind {
        Kind::Hello => {}
        Kind::Bye => {
            let reason = decode_reason(payload);
            return Err(Failure::Fatal(Error::refused_by_peer(&reason)));
        }
        _ => return Err(Failure::protocol("a frame came before HELLO".to_owned())),
    }
    let hello =
        Hello::decode(payload).map_err(|error| Failure::protocol(report(&error).to_string()))?;
    let network = &node.config().network;
    if hello.net == *network {
        return Ok(hello);
    }
    let text = format!("the peer is of the network \"{}\"", Escaped(&hello.net));
    Err(Failure::Refused {
        error: Error::refused(text),
        bye: format!("this node is of the network \"{network}\""),
    })
}

/// Refuses a connection, for this reason, with one write that is not waited for.
pub(crate) fn turn_away<IO>(mut io: IO, wire: &Wire, words: &Goodbye)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    if wire.has_handshake() {
        dismiss(&mut io, &mut wire.codec(0), words);
    }
}

/// Tells the peer why it is refused, as far as that takes no time.
pub(super) fn dismiss<IO>(io: &mut IO, codec: &mut WireCodec, words: &Goodbye)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut bye = BytesMut::new();
    let words = encode_reason(words.as_str());
    if codec.encode(Kind::Bye, 0, words, &mut bye).is_err() {
        return;
    }
    let mut cx = Context::from_waker(Waker::noop());
    let _ = Pin::new(&mut *io).poll_write(&mut cx, &bye);
    let _ = Pin::new(&mut *io).poll_flush(&mut cx);
    let _ = Pin::new(&mut *io).poll_shutdown(&mut cx);
    // A socket that is closed with unread bytes may lose bytes that were written to it.
    let mut unread = [0; READ];
    let _ = Pin::new(&mut *io).poll_read(&mut cx, &mut ReadBuf::new(&mut unread));
}

/// Tells the peer why it is refused, and gives it time to read that.
pub(super) async fn refuse<IO>(io: &mut IO, codec: &mut WireCodec, words: &str)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut bye = BytesMut::new();
    if codec
        .encode(Kind::Bye, 0, encode_reason(words), &mut bye)
        .is_err()
    {
        return;
    }
    let goodbye = async {
        io.write_all(&bye).await?;
        io.shutdown().await?;
        discard(io, LINGER_BYTES).await
    };
    // The peer is refused whether it reads that or not.
    let _ = tokio::time::timeout(LINGER, goodbye).await;
}

/// Reads and discards up to `left` bytes. A socket that is closed with unread bytes may lose bytes
/// that were written to it.
pub(super) async fn discard<R: AsyncRead + Unpin>(
    io: &mut R,
    mut left: usize,
) -> std::io::Result<()> {
    // On the heap, so that no connection has room for it while it runs.
    let mut buf = vec![0; READ];
    while left > 0 {
        let read = io.read(&mut buf).await?;
        if read == 0 {
            return Ok(());
        }
        left = left.saturating_sub(read);
    }
    Ok(())
}
