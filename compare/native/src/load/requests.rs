//! Requests of which many wait for their reply at a time.

use std::io::ErrorKind;
use std::time::Instant;

use bytes::{Buf, BytesMut};
use serde_json::json;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::hand::{Ping, envelope};
use crate::options::Options;
use crate::report::{self, Failed};
use crate::{socket, wire};

/// The role that asks `--in-flight` at a time: for each reply, one more.
///
/// # Errors
///
/// Where the server is not there, goes, or does not answer as it should.
pub async fn ask(options: &Options) -> Result<(), Failed> {
    let mut io = socket::connect(&options.addr).await?;
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
    for limit in [options.warmup, options.seconds] {
        let began = Instant::now();
        let mut answered = 0_u64;
        while began.elapsed() < limit {
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
        if limit == options.seconds {
            report::print(&json!({
                "messages": answered,
                "seconds": began.elapsed().as_secs_f64(),
            }));
        }
    }
    Ok(())
}

/// Writes all of `rest`, and reads at least once. Both ways at once: a server that answers while it
/// is asked must not wait for this.
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
