//! A flood with dedup through many nodes in one process.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use serde_json::json;

use super::Relay;
use crate::load::graph;
use crate::options::Options;
use crate::report::{self, Failed};
use crate::{socket, wire};

/// How long the last message may take to all nodes.
const PATIENCE: Duration = Duration::from_secs(30);

/// The role of a mesh: random nodes publish, and each message must reach each other node once.
///
/// # Errors
///
/// Where a message did not.
pub async fn mesh(options: &Options) -> Result<(), Failed> {
    let nodes: Vec<_> = (0..options.nodes)
        .map(|_| Arc::new(Relay::new(true)))
        .collect();
    let links = graph::links(options.nodes, options.degree, options.seed);
    for (from, to) in &links {
        let listener = socket::listen()?;
        let addr = listener.local_addr()?.to_string();
        let (there, here) = tokio::join!(listener.accept(), socket::connect(&addr));
        for (stream, at) in [(there?.0, to), (here?, from)] {
            let node = Arc::clone(&nodes[*at]);
            tokio::spawn(async move {
                let mut stream = stream;
                socket::tune(&stream)?;
                let buf = wire::hello(&mut stream).await?;
                let (read, write) = stream.into_split();
                node.run(read, write, buf).await;
                std::io::Result::Ok(())
            });
        }
    }
    while nodes.iter().map(|node| node.peers().len()).sum::<usize>() < 2 * links.len() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let began = Instant::now();
    let cpu = report::cpu_time();
    let payload = vec![b'x'; options.size];
    let expected = (options.messages * (options.nodes - 1)) as u64;
    let delivered = || {
        nodes
            .iter()
            .map(|node| node.delivered.load(Relaxed))
            .sum::<u64>()
    };
    for (number, publisher) in graph::publishers(options).enumerate() {
        let mut frame = BytesMut::new();
        wire::put(
            &mut frame,
            wire::BROADCAST,
            &(number as u64).to_be_bytes(),
            &payload,
        );
        nodes[publisher].publish(frame.freeze()).await;
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
