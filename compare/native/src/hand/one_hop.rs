//! Many messages from one process to another, written in batches, and read frame by frame.

use bytes::{Buf, BufMut, BytesMut};
use common::Failed;
use common::options::Options;
use common::phase::phases;
use common::report::serve;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::requests::envelope;
use crate::socket::Server;
use crate::{lines, socket, wire};

/// Bytes that are gathered before they are written.
const BATCH: usize = 64 * 1024;
/// Bytes that are read at once.
const READ: usize = 256 * 1024;

/// A typed message of about `size` bytes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Beep<'a> {
    /// A number.
    pub time: u64,
    /// And a text.
    pub text: &'a str,
}

/// The role that reads.
///
/// # Errors
///
/// Where it can't listen.
pub async fn receive(options: &Options) -> Result<(), Failed> {
    let typed = options.payload == "typed";
    let server = Server::bind(options.tls)?;
    let (listener, acceptor) = (server.listener, server.acceptor);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                socket::tune(&stream)?;
                match acceptor {
                    Some(acceptor) => count(acceptor.accept(stream).await?, typed).await,
                    None => count(stream, typed).await,
                }
            });
        }
    });
    serve(server.address).await;
    Ok(())
}

/// Counts the broadcasts, and answers each frame for this node alone with their number.
async fn count<IO: AsyncRead + AsyncWrite + Unpin>(mut io: IO, typed: bool) -> Result<(), Failed> {
    let mut buf = wire::hello(&mut io).await?;
    let (mut messages, mut bytes, mut times) = (0_u64, 0_u64, 0_u64);
    loop {
        let mut at = 0;
        let mut asked = false;
        while let Some(head) = wire::parse(buf.get(at..).unwrap_or_default())? {
            let frame = buf.get(at..at + head.len).unwrap_or_default();
            at += head.len;
            match head.kind {
                wire::BROADCAST => {
                    let payload = frame.get(wire::BROADCAST_PREFIX..).unwrap_or_default();
                    messages += 1;
                    bytes += payload.len() as u64;
                    if typed {
                        let (kind, (), beep): (&str, (), Beep<'_>) =
                            rmp_serde::from_slice(payload)?;
                        if kind == "beep" {
                            times = times.wrapping_add(beep.time);
                        }
                    }
                }
                wire::DATA => asked = true,
                kind => {
                    if let Some(pong) = wire::pong(kind, frame) {
                        io.write_all(&pong).await?;
                    }
                }
            }
        }
        // All at once, so that a read moves the buffer at most once.
        buf.advance(at);
        if asked {
            std::hint::black_box((bytes, times));
            let mut answer = Vec::new();
            wire::put(&mut answer, wire::DATA, &[], &messages.to_be_bytes());
            io.write_all(&answer).await?;
            io.flush().await?;
        }
        if buf.capacity() - buf.len() < READ / 4 {
            buf.reserve(READ);
        }
        if io.read_buf(&mut buf).await? == 0 {
            return Ok(());
        }
    }
}

/// The role that sends.
///
/// # Errors
///
/// Where the other end cannot be reached, or disconnects.
pub async fn send(options: &Options) -> Result<(), Failed> {
    let (addr, certificate) = socket::address(options)?;
    let stream = socket::connect(addr).await?;
    if certificate.is_empty() {
        return send_over(stream, options).await;
    }
    let (connector, name) = socket::tls_client(certificate)?;
    send_over(connector.connect(name, stream).await?, options).await
}

async fn send_over<IO>(mut io: IO, options: &Options) -> Result<(), Failed>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut buf = wire::hello(&mut io).await?;
    let text = "x".repeat(options.size);
    let payload = vec![b'x'; options.size];
    let mut out = BytesMut::with_capacity(BATCH + 2 * options.size + 64);
    let mut nonce = 0_u64;
    let mut total = 0_u64;
    for phase in phases(options) {
        let before = total;
        loop {
            nonce += 1;
            if options.payload == "typed" {
                // Serialized in place, which the framework cannot do: the length of the frame is
                // known only afterwards.
                let start = out.len();
                out.put_bytes(0, wire::BROADCAST_PREFIX);
                let beep = Beep {
                    time: nonce,
                    text: text.get(..options.size - 8).unwrap_or(""),
                };
                envelope("beep", &beep, &mut out)?;
                let length = u32::try_from(out.len() - start - 4)?;
                let mut head = Vec::with_capacity(wire::BROADCAST_PREFIX);
                head.put_u32(length);
                head.put_slice(&[wire::BROADCAST, wire::TTL]);
                head.put_u64(nonce);
                if let Some(prefix) = out.get_mut(start..start + wire::BROADCAST_PREFIX) {
                    prefix.copy_from_slice(&head);
                }
            } else {
                wire::put(&mut out, wire::BROADCAST, &nonce.to_be_bytes(), &payload);
            }
            total += 1;
            if out.len() >= BATCH {
                io.write_all(&out).await?;
                out.clear();
                if !phase.goes_on() {
                    break;
                }
            }
        }
        confirm(&mut io, &mut buf, &mut out, total).await?;
        phase.report(json!({ "messages": total - before }));
    }
    Ok(())
}

/// The role that broadcasts the lines of a pipe.
///
/// # Errors
///
/// Where the other end cannot be reached, or disconnects.
pub async fn pump(options: &Options) -> Result<(), Failed> {
    let mut io = socket::connect(options.addr()?).await?;
    let mut buf = wire::hello(&mut io).await?;
    let mut out = BytesMut::new();
    let mut total = 0_u64;
    for phase in phases(options) {
        let mut stdin = lines::pipe(options.size)?;
        let mut read = BytesMut::new();
        let before = total;
        while phase.goes_on() {
            read.reserve(BATCH);
            stdin.read_buf(&mut read).await?;
            let mut start = 0;
            for end in memchr::memchr_iter(b'\n', &read) {
                total += 1;
                let line = read.get(start..end).unwrap_or_default();
                wire::put(&mut out, wire::BROADCAST, &total.to_be_bytes(), line);
                start = end + 1;
            }
            read.advance(start);
            io.write_all(&out).await?;
            out.clear();
        }
        confirm(&mut io, &mut buf, &mut out, total).await?;
        phase.report(json!({ "messages": total - before }));
    }
    Ok(())
}

/// Writes the rest of the batch, and asks the other end whether it has received `total` messages.
async fn confirm<IO>(
    io: &mut IO,
    buf: &mut BytesMut,
    out: &mut BytesMut,
    total: u64,
) -> Result<(), Failed>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    wire::put(out, wire::DATA, &[], b"how many?");
    io.write_all(out).await?;
    io.flush().await?;
    out.clear();
    confirmed(total, answer(io, buf).await?)
}

/// Checks that as many messages have arrived as were sent.
///
/// # Errors
///
/// Where the numbers differ.
pub fn confirmed(sent: u64, received: u64) -> Result<(), Failed> {
    if received != sent {
        return Err(format!("sent {sent} messages, and {received} arrived").into());
    }
    Ok(())
}

/// Reads the number that the other end answers.
async fn answer<IO: AsyncRead + Unpin>(io: &mut IO, buf: &mut BytesMut) -> Result<u64, Failed> {
    loop {
        if let Some(head) = wire::parse(buf)? {
            let frame = buf.split_to(head.len);
            if head.kind == wire::DATA
                && let Some(number) = frame.get(wire::FIXED..).and_then(<[u8]>::first_chunk)
            {
                return Ok(u64::from_be_bytes(*number));
            }
            continue;
        }
        if io.read_buf(buf).await? == 0 {
            return Err("the receiver has gone".into());
        }
    }
}
