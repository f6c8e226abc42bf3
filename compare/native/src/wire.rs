//! The parts of the native wire that the roles need, written by hand.

use std::io;

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes of the fixed part of a frame: length, kind and ttl.
pub const FIXED: usize = 6;
/// Bytes before the payload of a BROADCAST.
pub const BROADCAST_PREFIX: usize = FIXED + 8;
/// The offset of the ttl.
pub const TTL_AT: usize = 5;
/// The ttl of the frames that are sent here.
pub const TTL: u8 = 32;

/// A frame for one peer.
pub const DATA: u8 = 0x00;
/// A frame for all.
pub const BROADCAST: u8 = 0x01;
/// A frame that asks for an answer.
pub const REQUEST: u8 = 0x02;
/// An answer.
pub const REPLY: u8 = 0x03;
const HELLO: u8 = 0x10;
const PING: u8 = 0x11;
const PONG: u8 = 0x12;

/// The longest frame that is accepted.
const MAX_FRAME: usize = 1024 * 1024;

/// The head of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// The kind of the frame.
    pub kind: u8,
    /// The hops that it may still go.
    pub ttl: u8,
    /// Bytes of the whole frame.
    pub len: usize,
}

/// Parses the frame at the start of `bytes`. Returns `None` if it is not yet whole.
///
/// # Errors
///
/// Where its length is invalid.
#[inline]
pub fn parse(bytes: &[u8]) -> io::Result<Option<Head>> {
    let Some(&[a, b, c, d, kind, ttl]) = bytes.first_chunk::<FIXED>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if !(2..=MAX_FRAME + 16).contains(&length) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "no frame is this long",
        ));
    }
    let len = length + 4;
    Ok((bytes.len() >= len).then_some(Head { kind, ttl, len }))
}

/// Appends a frame. The `key` stands before the payload.
#[inline]
pub fn put(out: &mut impl BufMut, kind: u8, key: &[u8], payload: &[u8]) {
    let length = u32::try_from(2 + key.len() + payload.len()).unwrap_or(u32::MAX);
    out.put_u32(length);
    out.put_u8(kind);
    out.put_u8(TTL);
    out.put_slice(key);
    out.put_slice(payload);
}

/// Returns the PONG for a frame that is a PING. A client that lives longer than 30 s must answer.
#[must_use]
pub fn pong(kind: u8, frame: &[u8]) -> Option<Vec<u8>> {
    (kind == PING).then(|| {
        let mut pong = frame.to_vec();
        if let Some(kind) = pong.get_mut(4) {
            *kind = PONG;
        }
        pong
    })
}

/// Exchanges HELLO frames, and returns the bytes that were read beyond that.
///
/// # Errors
///
/// Where the other end sends no HELLO.
pub async fn hello<IO>(io: &mut IO) -> io::Result<BytesMut>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let node: [u8; 16] = rand::random();
    let mut map = Vec::new();
    map.extend_from_slice(b"\x84\xa1v\x01\xa4node\xc4\x10");
    map.extend_from_slice(&node);
    map.extend_from_slice(b"\xa3net\xa0\xa5agent\xa4hand");
    let mut out = Vec::new();
    put(&mut out, HELLO, &[], &map);
    io.write_all(&out).await?;
    io.flush().await?;
    let mut buf = BytesMut::with_capacity(1024);
    loop {
        if let Some(head) = parse(&buf)? {
            if head.kind != HELLO {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the first frame is no HELLO",
                ));
            }
            buf.advance(head.len);
            return Ok(buf);
        }
        if io.read_buf(&mut buf).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
