//! Requests that carry a message, and answers by its type.

use std::time::Instant;

use bytes::{Buf, BufMut, BytesMut};
use common::Failed;
use common::options::Options;
use common::phase::phases;
use common::report::{Latencies, serve};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{socket, wire};

/// Bytes that are read at once.
const READ: usize = 256 * 1024;

/// The body of a request.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ping {
    /// A number.
    pub time: u64,
    /// And a text.
    pub text: String,
}

/// The body of an answer.
#[derive(Debug, Serialize, Deserialize)]
pub struct Pong {
    /// The number of the request.
    pub time: u64,
    /// And its text.
    pub text: String,
}

impl From<Ping> for Pong {
    fn from(Ping { time, text }: Ping) -> Self {
        Self { time, text }
    }
}

/// Checks that an answer belongs to its request.
///
/// # Errors
///
/// Where the numbers differ.
pub fn check(ping: &Ping, pong: &Pong) -> Result<(), Failed> {
    if pong.time != ping.time {
        return Err(format!("asked {}, and was answered {}", ping.time, pong.time).into());
    }
    Ok(())
}

/// Appends the courier's envelope around a body.
///
/// # Errors
///
/// Where the body can't be serialized.
pub fn envelope<T: Serialize>(kind: &str, body: &T, out: &mut BytesMut) -> Result<(), Failed> {
    rmp_serde::encode::write_named(&mut out.writer(), &(kind, (), body))?;
    Ok(())
}

/// Answers "ping" with "pong"; the answers to all requests of a read are one write.
///
/// # Errors
///
/// Where it can't listen.
pub async fn answer() -> Result<(), Failed> {
    let listener = socket::listen()?;
    let addr = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                if let Err(error) = dispatch(stream).await {
                    eprintln!("a connection ended: {error}");
                }
            });
        }
    });
    serve(addr).await;
    Ok(())
}

async fn dispatch(mut io: TcpStream) -> Result<(), Failed> {
    socket::tune(&io)?;
    let mut buf = wire::hello(&mut io).await?;
    let mut out = BytesMut::new();
    let mut body = BytesMut::new();
    loop {
        let mut at = 0;
        while let Some(head) = wire::parse(buf.get(at..).unwrap_or_default())? {
            let frame = buf.get(at..at + head.len).unwrap_or_default();
            at += head.len;
            let key = frame.get(wire::FIXED..wire::FIXED + 4).unwrap_or_default();
            if head.kind == wire::REQUEST {
                let payload = frame.get(wire::FIXED + 4..).unwrap_or_default();
                let (kind, (), ping): (&str, (), Ping) = rmp_serde::from_slice(payload)?;
                body.clear();
                match kind {
                    "ping" => {
                        envelope("pong", &Pong::from(ping), &mut body)?;
                        let reply = [key, &[0]].concat();
                        wire::put(&mut out, wire::REPLY, &reply, &body);
                    }
                    _ => wire::put(&mut out, wire::REPLY, &[key, &[1]].concat(), &[]),
                }
            } else if let Some(pong) = wire::pong(head.kind, frame) {
                out.extend_from_slice(&pong);
            }
        }
        buf.advance(at);
        if !out.is_empty() {
            io.write_all(&out).await?;
            out.clear();
        }
        if buf.capacity() - buf.len() < READ / 4 {
            buf.reserve(READ);
        }
        if io.read_buf(&mut buf).await? == 0 {
            return Ok(());
        }
    }
}

/// Sends one request at a time, and parses each answer.
///
/// # Errors
///
/// Where the other end cannot be reached, or disconnects.
pub async fn ask(options: &Options) -> Result<(), Failed> {
    let mut io = socket::connect(options.addr()?).await?;
    let mut buf = wire::hello(&mut io).await?;
    let mut body = BytesMut::new();
    let mut out = BytesMut::new();
    let text = "x".repeat(options.size);
    let mut ping = Ping { time: 0, text };
    for phase in phases(options) {
        let mut latencies = Latencies::default();
        while phase.goes_on() {
            let asked = Instant::now();
            ping.time += 1;
            body.clear();
            out.clear();
            envelope("ping", &ping, &mut body)?;
            wire::put(&mut out, wire::REQUEST, &1_u32.to_be_bytes(), &body);
            io.write_all(&out).await?;
            let pong = loop {
                if let Some(head) = wire::parse(&buf)? {
                    let frame = buf.split_to(head.len);
                    if let Some(pong) = wire::pong(head.kind, &frame) {
                        io.write_all(&pong).await?;
                        continue;
                    }
                    let payload = frame.get(wire::FIXED + 5..).unwrap_or_default();
                    let (_, (), pong): (String, (), Pong) = rmp_serde::from_slice(payload)?;
                    break pong;
                }
                buf.reserve(READ / 4);
                if io.read_buf(&mut buf).await? == 0 {
                    return Err("the server has gone".into());
                }
            };
            check(&ping, &pong)?;
            latencies.add(asked.elapsed());
        }
        phase.report(latencies.result());
    }
    Ok(())
}
