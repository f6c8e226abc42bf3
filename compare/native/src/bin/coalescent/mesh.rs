//! Many nodes in one process, with a smart relay each.

use std::time::{Duration, Instant};

use bytes::Bytes;
use coalescent::Mesh;
use coalescent::prelude::*;
use native::load::graph;
use native::options::Options;
use native::report::{self, Failed};
use serde_json::json;

use crate::hub::app;

/// How long the last message may take to all nodes.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn mesh(options: &Options) -> Result<(), Failed> {
    let mut nodes: Vec<Mesh> = Vec::new();
    for _ in 0..options.nodes {
        nodes.push(
            app(options)
                .with(SmartRelay::new())
                .listen("127.0.0.1:0")
                .await?,
        );
    }
    let links = graph::links(options.nodes, options.degree, options.seed);
    for (from, to) in &links {
        let addr = nodes[*to].local_addrs()[0].to_string();
        nodes[*from].connect(&addr).await?;
    }
    while nodes.iter().map(|node| node.peers().len()).sum::<usize>() < 2 * links.len() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let began = Instant::now();
    let cpu = report::cpu_time();
    let payload = Bytes::from(vec![b'x'; options.size]);
    let expected = (options.messages * (options.nodes - 1)) as u64;
    let delivered = || nodes.iter().map(|node| node.stats().delivered).sum::<u64>();
    for (number, publisher) in graph::publishers(options).enumerate() {
        nodes[publisher].broadcast_payload(payload.clone()).await;
        graph::pace(number as u64, options, &delivered).await;
    }
    while delivered() < expected {
        if began.elapsed() > PATIENCE {
            return Err(format!(
                "{} of {expected} deliveries after {PATIENCE:?}",
                delivered()
            )
            .into());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    if delivered() != expected {
        return Err(format!("{} deliveries, and not {expected}", delivered()).into());
    }
    report::print(&json!({
        "deliveries": expected,
        "seconds": began.elapsed().as_secs_f64(),
        "cpu_seconds": (report::cpu_time() - cpu).as_secs_f64(),
    }));
    Ok(())
}
