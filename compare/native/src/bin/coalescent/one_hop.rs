//! `broadcast` on one side, the read side of the mesh on the other.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use coalescent::MeshReader;
use coalescent::prelude::*;
use coalescent::wire::Kind;
use common::Failed;
use common::options::Options;
use common::phase::phases;
use common::report::serve;
use native::hand::{Beep, confirmed};
use native::lines;
use serde_json::json;
use tokio::io::AsyncReadExt;

use crate::hub::app;

/// Bytes that are read from a pipe at once.
const READ: usize = 64 * 1024;

/// Counts the broadcasts, and answers a frame for this node alone with their number.
pub(crate) async fn receive(options: &Options) -> Result<(), Failed> {
    let at = "127.0.0.1:0";
    let mesh = if options.payload == "typed" {
        let mesh = app(options).with(Courier::new()).listen(at).await?;
        tokio::spawn(count_typed(mesh.reader()));
        mesh
    } else {
        let mesh = app(options).listen(at).await?;
        tokio::spawn(count(mesh.reader()));
        mesh
    };
    serve(mesh.local_addrs()[0]).await;
    Ok(())
}

/// Reads the payloads batch by batch.
async fn count(mut reader: MeshReader) {
    let (mut messages, mut bytes) = (0_u64, 0_u64);
    while let Some(frames) = reader.next_frames().await {
        for frame in frames {
            if frame.kind() == Kind::Data {
                black_box(bytes);
                let answer = Bytes::copy_from_slice(&messages.to_be_bytes());
                // This fails only if the peer has gone.
                let _ = frame.peer().send_payload(answer).await;
                continue;
            }
            messages += 1;
            bytes += frame.payload().len() as u64;
        }
    }
}

/// Decodes each message.
async fn count_typed(mut reader: MeshReader) {
    let (mut messages, mut bytes, mut times) = (0_u64, 0_u64, 0_u64);
    while let Some(frame) = reader.next_frame().await {
        if frame.kind() == Kind::Data {
            black_box((bytes, times));
            // This fails only if the peer has gone.
            let _ = frame.peer().send("so many", &messages).await;
            continue;
        }
        messages += 1;
        bytes += frame.payload().len() as u64;
        if let Some(message) = frame.message()
            && message.kind_bytes() == b"beep"
            && let Ok(beep) = message.body::<Beep<'_>>()
        {
            black_box(beep.text);
            times = times.wrapping_add(beep.time);
        }
    }
}

pub(crate) async fn send(options: &Options) -> Result<(), Failed> {
    let typed = options.payload == "typed";
    let mesh = if typed {
        app(options).with(Courier::new()).start().await?
    } else {
        app(options).start().await?
    };
    let peer = mesh.connect(options.addr()?).await?;
    let mut reader = mesh.reader();
    let payload = Bytes::from(vec![b'x'; options.size]);
    let text = "x".repeat(options.size);
    let text = text.get(..options.size - 8).unwrap_or("");
    let mut total = 0;
    for phase in phases(options) {
        let before = total;
        while phase.goes_on() {
            let batch = options.batch as u64;
            match (typed, batch) {
                (true, 1) => {
                    let _ = mesh.broadcast("beep", &Beep { time: total, text }).await?;
                }
                (true, _) => {
                    let beeps = (total..total + batch).map(|time| Beep { time, text });
                    let _ = mesh.broadcast_all("beep", beeps).await?;
                }
                (false, 1) => {
                    let _ = mesh.broadcast_payload(payload.clone()).await?;
                }
                (false, _) => {
                    let payloads = (0..batch).map(|_| &payload);
                    let _ = mesh.broadcast_payloads(payloads).await?;
                }
            }
            total += batch;
        }
        confirm(&peer, &mut reader, typed, total).await?;
        phase.report(json!({ "messages": total - before }));
    }
    Ok(())
}

/// Broadcasts the lines of a pipe, all of a read together.
pub(crate) async fn pump(options: &Options) -> Result<(), Failed> {
    let mesh = app(options).start().await?;
    let peer = mesh.connect(options.addr()?).await?;
    let mut reader = mesh.reader();
    let mut total = 0;
    for phase in phases(options) {
        let mut stdin = lines::pipe(options.size)?;
        let mut read = BytesMut::new();
        let before = total;
        while phase.goes_on() {
            read.reserve(READ);
            stdin.read_buf(&mut read).await?;
            let Some(last) = memchr::memrchr(b'\n', &read) else {
                continue;
            };
            let whole = read.split_to(last + 1);
            let mut start = 0;
            let lines = memchr::memchr_iter(b'\n', &whole).map(|end| {
                let line = whole.get(start..end).unwrap_or_default();
                start = end + 1;
                total += 1;
                line
            });
            let _ = mesh.broadcast_payloads(lines).await?;
        }
        confirm(&peer, &mut reader, false, total).await?;
        phase.report(json!({ "messages": total - before }));
    }
    Ok(())
}

/// Asks the other end whether it has received `total` messages.
async fn confirm(
    peer: &Peer,
    reader: &mut MeshReader,
    typed: bool,
    total: u64,
) -> Result<(), Failed> {
    if typed {
        peer.send("how many?", &()).await?;
    } else {
        peer.send_payload("how many?").await?;
    }
    let frame = reader.next_frame().await.ok_or("the mesh has ended")?;
    let received = match (frame.message(), frame.payload().first_chunk()) {
        (Some(message), _) => message.body()?,
        (None, Some(number)) => u64::from_be_bytes(*number),
        (None, None) => return Err("the answer is no number".into()),
    };
    confirmed(total, received)
}
