//! A courier and a router that answer, and a peer that asks.

use std::sync::Arc;
use std::time::Instant;

use coalescent::Router;
use coalescent::extract::Body;
use coalescent::prelude::*;
use common::Failed;
use common::options::Options;
use common::phase::{Phase, phases};
use common::report::{Latencies, serve};
use native::hand::{Ping, Pong, check};
use serde_json::json;

use crate::hub::app;

async fn ping(Body(ping): Body<Ping>) -> impl IntoReply {
    Message::new("pong", &Pong::from(ping))
}

pub(crate) async fn answer(options: &Options) -> Result<(), Failed> {
    let mut router = Router::new().route("ping", ping);
    for number in 1..options.routes {
        router = router.route(&format!("route {number}"), ping);
    }
    let app = app(options).with(Courier::new()).with(router);
    let mesh = app.listen("127.0.0.1:0").await?;
    serve(mesh.local_addrs()[0]).await;
    Ok(())
}

/// Keeps `--in-flight` requests in flight, each from a task of its own.
pub(crate) async fn ask(options: &Options) -> Result<(), Failed> {
    let mesh = app(options).with(Courier::new()).start().await?;
    let peer = mesh.connect(options.addr()?).await?;
    let text: Arc<str> = "x".repeat(options.size).into();
    for phase in phases(options) {
        let tasks: Vec<_> = (1..options.in_flight)
            .map(|_| tokio::spawn(keep_asking(peer.clone(), Arc::clone(&text), phase)))
            .collect();
        let (mut messages, latencies) = keep_asking(peer.clone(), Arc::clone(&text), phase).await?;
        for task in tasks {
            messages += task.await??.0;
        }
        let mut result = latencies.result();
        result["messages"] = json!(messages);
        phase.report(result);
    }
    Ok(())
}

async fn keep_asking(peer: Peer, text: Arc<str>, phase: Phase) -> Result<(u64, Latencies), Failed> {
    let mut latencies = Latencies::default();
    let mut ping = Ping {
        time: 0,
        text: text.to_string(),
    };
    while phase.goes_on() {
        let asked = Instant::now();
        ping.time += 1;
        let pong: Pong = peer.request("ping", &ping).await?.body()?;
        check(&ping, &pong)?;
        latencies.add(asked.elapsed());
    }
    Ok((ping.time, latencies))
}
