//! A courier and a router that answer, and a peer that asks.

use std::sync::Arc;
use std::time::Instant;

use coalescent::prelude::*;
use native::hand::{Ping, Pong};
use native::options::Options;
use native::report::{self, Failed, Latencies};
use serde_json::json;

use crate::hub::app;

async fn ping(Body(ping): Body<Ping>) -> impl IntoReply {
    Message::new(
        "pong",
        &Pong {
            time: ping.time,
            text: ping.text,
        },
    )
}

pub(crate) async fn answer(options: &Options) -> Result<(), Failed> {
    let mut router = Router::new().route("ping", ping);
    for number in 1..options.routes {
        router = router.route(&format!("route {number}"), ping);
    }
    let mesh = app(options)
        .with(Courier::new())
        .with(router)
        .listen("127.0.0.1:0")
        .await?;
    report::serve(mesh.local_addrs()[0]).await;
    Ok(())
}

/// Asks `--in-flight` at a time, each in a task of its own.
pub(crate) async fn ask(options: &Options) -> Result<(), Failed> {
    let mesh = app(options).with(Courier::new()).start().await?;
    let peer = mesh.connect(&options.addr).await?;
    let text: Arc<str> = "x".repeat(options.size).into();
    for limit in [options.warmup, options.seconds] {
        let began = Instant::now();
        let tasks: Vec<_> = (1..options.in_flight)
            .map(|_| tokio::spawn(keep_asking(peer.clone(), Arc::clone(&text), limit)))
            .collect();
        let (mut messages, latencies) = keep_asking(peer.clone(), Arc::clone(&text), limit).await?;
        for task in tasks {
            messages += task.await??.0;
        }
        if limit == options.seconds {
            let mut report = latencies.report(began);
            report["messages"] = json!(messages);
            report::print(&report);
        }
    }
    Ok(())
}

async fn keep_asking(
    peer: Peer,
    text: Arc<str>,
    limit: std::time::Duration,
) -> Result<(u64, Latencies), Failed> {
    let began = Instant::now();
    let mut latencies = Latencies::default();
    let mut ping = Ping {
        time: 0,
        text: text.to_string(),
    };
    while began.elapsed() < limit {
        let asked = Instant::now();
        ping.time += 1;
        let pong: Pong = peer.request("ping", &ping).await?.body()?;
        if pong.time != ping.time {
            return Err(format!("asked {}, and was answered {}", ping.time, pong.time).into());
        }
        latencies.add(asked.elapsed());
    }
    Ok((ping.time, latencies))
}
