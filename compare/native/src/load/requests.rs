//! Many requests in flight.

use std::io::ErrorKind;

use bytes::{Buf, BytesMut};
use common::Failed;
use common::options::Options;
use common::phase::phases;
use serde_json::json;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::hand::{Ping, envelope};
use crate::{socket, wire};

/// The role that keeps `--in-flight` requests in flight: each reply is followed by a request.
///
/// # Errors
///
/// Where the server cannot be reached, disconnects, or gives a wrong answer.
pub async fn ask(options: &Options) -> Result<(), Failed> {
    let mut io = socket::connect(options.addr()?).await?;
    let mut buf = wire::hello(&mut io).await?;
    let mut body = BytesMut::new();
    let text = "x".repeat(options.size - 8);
    envelope("ping", &Ping { time: 1, text }, &mut body)?;
    let mut expected = BytesMut::new();
    let text = "x".repeat(options.size - 8);
    envelope("pong", &Ping { time: 1, text }, &mut expected)?;
    let mut out = BytesMut::new();
    let mut id = 0_u32;
    let mut ask = |count: usize, out: &mut BytesMut| {
        for _ in 0..count {
            id = id.wrapping_add(1);
            wire::put(out, wire::REQUEST, &id.to_be_bytes(), &body);
        }
    };
    ask(options.in_flight, &mut out);
    exchange(&mut io, &out, &mut buf).await?;
    for phase in phases(options) {
        let mut answered = 0_u64;
        while phase.goes_on() {
            let (mut at, mut count) = (0, 0);
            while let Some(head) = wire::parse(buf.get(at..).unwrap_or_default())? {
                let frame = buf.get(at..at + head.len).unwrap_or_default();
                at += head.len;
                if head.kind != wire::REPLY {
                    continue;
                }
                let good = frame.get(wire::FIXED + 4) == Some(&0)
                    && frame.get(wire::FIXED + 5..) == Some(&expected[..]);
                if !good {
                    return Err("a reply is not what was asked".into());
                }
                count += 1;
            }
            buf.advance(at);
            answered += count as u64;
            out.clear();
            ask(count, &mut out);
            exchange(&mut io, &out, &mut buf).await?;
        }
        phase.report(json!({ "messages": answered }));
    }
    Ok(())
}

/// Writes all of `rest`, and reads at least once. It does both at the same time, because a server
/// that answers while it reads must not wait for this.
async fn exchange(io: &mut TcpStream, mut rest: &[u8], buf: &mut BytesMut) -> Result<(), Failed> {
    loop {
        let readable = Interest::READABLE;
        let wanted = if rest.is_empty() {
            readable
        } else {
            readable | Interest::WRITABLE
        };
        io.ready(wanted).await?;
        match io.try_write(rest) {
            Ok(written) => rest.advance(written),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        buf.reserve(64 * 1024);
        match io.try_read_buf(buf) {
            Ok(0) => return Err("the server has gone".into()),
            Ok(_) if rest.is_empty() => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}
