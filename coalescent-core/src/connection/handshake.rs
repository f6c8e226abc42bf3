//! How two nodes introduce themselves, on wires that have a handshake.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::error::{BoxError, Error};
use crate::node::Node;
use crate::node::peer::{Endpoint, Introduction};
use crate::text::Escaped;
use crate::transport::Direction;
use crate::wire::{
    Block, Hello, Kind, MAX_FRAME_CEILING, Wire, WireCodec, decode_reason, encode_reason,
};

/// How much is read at a time before the peer has introduced itself.
const READ: usize = 1024;

/// How long a refused peer has to read why.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// How many bytes of a refused peer's are read, and thrown away, so that it can read why.
const LINGER_BYTES: usize = 256 * 1024;

/// How many bytes of a peer that was connected are read, and thrown away, so that its connection
/// ends well for it: more than it can have had under way, buffers of its own included.
pub(super) const DISCARD_MAX: usize = 64 * 1024 * 1024;

/// A connection whose peer has introduced itself.
#[derive(Debug)]
pub(super) struct Introduced<IO> {
    pub(super) io: IO,
    pub(super) codec: WireCodec,
    /// What was read beyond the introduction.
    pub(super) buf: BytesMut,
    pub(super) block: Option<Block>,
    pub(super) intro: Introduction,
}

/// Introduces this node to the peer at the other end of `io`, and the other way round.
///
/// # Errors
///
/// Where the peer says nothing in time, is no peer of this wire, or belongs to another network.
pub(super) async fn introduce<IO>(
    mut io: IO,
    node: &Node,
    wire: Wire,
    origin: Endpoint,
    key: Option<[u8; 32]>,
    listen: Option<String>,
) -> Result<Introduced<IO>, Error>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let config = node.config();
    let mut codec = wire.codec(config.max_frame);
    codec.clamp_ttl(config.ttl);
    let mut intro = Introduction {
        key,
        node_id: None,
        agent: None,
        listen: None,
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
    let exchange = exchange(&mut io, node, &mut codec, &mut buf, listen);
    let limit = config.handshake_timeout;
    let result = match tokio::time::timeout(limit, exchange).await {
        Ok(Ok(hello)) => hello,
        Ok(Err(Failure::Refused { error, bye })) => {
            part(&mut io, &mut codec, &bye).await;
            return Err(error);
        }
        Ok(Err(Failure::Fatal(error))) => return Err(error),
        Ok(Err(Failure::Unsaid(error))) => {
            let stranger = origin.direction == Direction::Inbound && intro.key.is_none();
            return Err(if stranger {
                Error::unsaid(error)
            } else {
                Error::handshake(error)
            });
        }
        Err(_) => return Err(Error::handshake_timeout(limit)),
    };
    let (hello, block) = result;
    codec.established();
    intro.node_id = Some(hello.node);
    intro.agent = Some(hello.agent);
    intro.listen = hello.listen;
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
    /// The connection ended before anything came over it.
    Unsaid(io::Error),
    /// There is nobody to be told.
    Fatal(Error),
    /// The peer is told so, in these words.
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

    /// The connection broke, after something came over it or before.
    fn broken(error: io::Error, heard: bool) -> Self {
        if heard {
            Self::fatal(error)
        } else {
            Self::Unsaid(error)
        }
    }
}

async fn exchange<IO>(
    io: &mut IO,
    node: &Node,
    codec: &mut WireCodec,
    buf: &mut BytesMut,
    listen: Option<String>,
) -> Result<(Hello, Option<Block>), Failure>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let config = node.config();
    let hello = Hello {
        node: node.id(),
        net: config.network.clone(),
        agent: config.agent.clone(),
        listen,
        max: u32::try_from(config.max_frame.min(MAX_FRAME_CEILING)).ok(),
    };
    let hello = hello.encode().map_err(Failure::fatal)?;
    let mut out = BytesMut::new();
    codec
        .encode(Kind::Hello, 0, &hello, &mut out)
        .map_err(Failure::fatal)?;
    let unsaid = |error| Failure::broken(error, false);
    io.write_all(&out).await.map_err(unsaid)?;
    io.flush().await.map_err(unsaid)?;

    let mut block = Block::new();
    let mut heard = false;
    loop {
        // One frame at a time: what comes behind the introduction has other limits.
        let found = codec
            .next_block(buf, &mut block)
            .map_err(|error| Failure::protocol(error.to_string()))?;
        if found {
            break;
        }
        buf.reserve(READ);
        match io.read_buf(buf).await {
            Ok(0) => return Err(Failure::broken(io::ErrorKind::UnexpectedEof.into(), heard)),
            Ok(_) => heard = true,
            Err(error) => return Err(Failure::broken(error, heard)),
        }
    }
    let Some(&(offset, head)) = block.heads.first() else {
        return Err(Failure::protocol("nothing was said".to_owned()));
    };
    let payload = block.payload(offset, &head);
    match head.kind {
        Kind::Hello => {}
        Kind::Bye => {
            let reason = decode_reason(&payload);
            let text = format!("the peer refused: {}", Escaped(&reason));
            return Err(Failure::Fatal(Error::refused(text)));
        }
        _ => return Err(Failure::protocol("a frame came before HELLO".to_owned())),
    }
    let hello = Hello::decode(&payload).map_err(|error| Failure::protocol(error.to_string()))?;
    if hello.net != config.network {
        let text = format!("the peer is of the network \"{}\"", Escaped(&hello.net));
        let bye = format!("this node is of the network \"{}\"", config.network);
        return Err(Failure::Refused {
            error: Error::refused(text),
            bye,
        });
    }
    block.heads.remove(0);
    let rest = (!block.heads.is_empty()).then_some(block);
    Ok((hello, rest))
}

/// Tells the peer why it is refused, and gives it the time to read that.
pub(super) async fn part<IO>(io: &mut IO, codec: &mut WireCodec, words: &str)
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
    // Whether it reads it or not, it is refused.
    let _ = tokio::time::timeout(LINGER, goodbye).await;
}

/// Reads and throws away what the peer still sends: closing a socket with unread bytes would throw
/// away what was written to it.
pub(super) async fn discard<R: AsyncRead + Unpin>(
    io: &mut R,
    mut left: usize,
) -> std::io::Result<()> {
    // On the heap, since each connection would carry it along for its end.
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
