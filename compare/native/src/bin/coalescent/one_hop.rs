//! `broadcast` on one side, the read side of the mesh on the other.

use std::time::Instant;

use bytes::Bytes;
use coalescent::{prelude::*, wire::Kind};
use native::{
    hand::Beep,
    options::Options,
    report::{self, Failed},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::hub::app;

/// The hand-written [`Beep`] as it is received here: a body owns what it holds.
#[derive(Debug, Serialize, Deserialize)]
struct Owned {
    time: u64,
    text: String,
}

/// Counts the broadcasts, and answers a frame for this node alone with their number.
pub(crate) async fn receive(options: &Options) -> Result<(), Failed> {
    let typed = options.payload == "typed";
    let at = "127.0.0.1:0";
    let mesh = if typed {
        app(options).with(Courier::new()).listen(at).await?
    } else {
        app(options).listen(at).await?
    };
    let mut reader = mesh.reader();
    tokio::spawn(async move {
        let (mut messages, mut bytes, mut times) = (0_u64, 0_u64, 0_u64);
        while let Some(frame) = reader.next_frame().await {
            if frame.kind() == Kind::Data {
                std::hint::black_box((bytes, times));
                let answer = Bytes::copy_from_slice(&messages.to_be_bytes());
                let _ = frame.peer().send_payload(answer).await;
                continue;
            }
            messages += 1;
            bytes += frame.payload().len() as u64;
            if let Some(message) = frame.message()
                && message.kind() == "beep"
                && let Ok(beep) = message.body::<Owned>()
            {
                std::hint::black_box(&beep.text);
                times = times.wrapping_add(beep.time);
            }
        }
    });
    report::serve(mesh.local_addrs()[0]).await;
    Ok(())
}

pub(crate) async fn send(options: &Options) -> Result<(), Failed> {
    let typed = options.payload == "typed";
    let mesh = if typed {
        app(options).with(Courier::new()).start().await?
    } else {
        app(options).start().await?
    };
    let peer = mesh.connect(&options.addr).await?;
    let mut reader = mesh.reader();
    let payload = Bytes::from(vec![b'x'; options.size]);
    let text = "x".repeat(options.size);
    let text = text.get(..options.size - 8).unwrap_or("");
    let mut total = 0;
    for limit in [options.warmup, options.seconds] {
        let began = Instant::now();
        let before = total;
        loop {
            if typed {
                mesh.broadcast("beep", &Beep { time: total, text }).await?;
            } else {
                mesh.broadcast_payload(payload.clone()).await;
            }
            total += 1;
            if total % 64 == 0 && began.elapsed() >= limit {
                break;
            }
        }
        let question = if typed {
            mesh_question()?
        } else {
            Bytes::from_static(b"how many?")
        };
        peer.send_payload(question).await?;
        let confirmed = loop {
            let frame = reader.next_frame().await.ok_or("the mesh has ended")?;
            if let Some(number) = frame.payload().first_chunk() {
                break u64::from_be_bytes(*number);
            }
        };
        if confirmed != total {
            return Err(format!("sent {total} messages, and {confirmed} arrived").into());
        }
        if limit == options.seconds {
            report::print(&json!({
                "messages": total - before,
                "seconds": began.elapsed().as_secs_f64(),
            }));
        }
    }
    Ok(())
}

/// The question as a message, which a courier lets through.
fn mesh_question() -> Result<Bytes, Failed> {
    Ok(coalescent::codec::Codec::msgpack().encode_body("how many?", &())?)
}
