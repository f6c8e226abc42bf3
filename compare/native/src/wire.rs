//! The native wire, as far as the roles need it, written by hand.

use std::io;

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Length, kind and ttl.
pub const FIXED: usize = 6;
/// What stands before the payload of a BROADCAST.
pub const BROADCAST_PREFIX: usize = FIXED + 8;
/// Where the ttl stands.
pub const TTL_AT: usize = 5;
/// The ttl of what is sent here.
pub const TTL: u8 = 32;

/// A frame for one peer.
pub const DATA: u8 = 0x00;
/// A frame for all.
pub const BROADCAST: u8 = 0x01;
/// A frame that is to be answered.
pub const REQUEST: u8 = 0x02;
/// An answer.
pub const REPLY: u8 = 0x03;
const HELLO: u8 = 0x10;
const PING: u8 = 0x11;
const PONG: u8 = 0x12;

/// The longest frame that is taken.
const MAX_FRAME: usize = 1024 * 1024;

/// One frame at the front of some bytes.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// What kind it is.
    pub kind: u8,
    /// How many more hops it may go.
    pub ttl: u8,
    /// How many bytes it takes with all that belongs to it.
    pub len: usize,
}

/// Looks for a whole frame at the front of `bytes`.
///
/// # Errors
///
/// Where it is longer than any may be.
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

/// Appends a frame: its kind, what stands before the payload (`key`), and the payload.
#[inline]
pub fn put(out: &mut impl BufMut, kind: u8, key: &[u8], payload: &[u8]) {
    let length = u32::try_from(2 + key.len() + payload.len()).unwrap_or(u32::MAX);
    out.put_u32(length);
    out.put_u8(kind);
    out.put_u8(TTL);
    out.put_slice(key);
    out.put_slice(payload);
}

/// The PONG that a frame asks for, if it is a PING. A client that lives longer than half a minute
/// must answer.
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

/// Introduces both ends to each other, and returns what was read beyond that.
///
/// # Errors
///
/// Where the other end does not introduce itself.
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
