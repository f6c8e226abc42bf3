//! A node that joins its mesh to a subject of NATS, and says what it hears.
//!
//! Start a server, and a node in each of two meshes, which know nothing of each other:
//!
//! ```text
//! nats-server --addr 127.0.0.1 --port 4222
//! cargo run --example bridge -- nats://127.0.0.1:4222 prices 127.0.0.1:7001
//! cargo run --example bridge -- nats://127.0.0.1:4222 prices 127.0.0.1:7002
//! ```
//!
//! Each line that is typed at one, or at any other node of its mesh, reaches the other mesh, and
//! whoever subscribes: `nats sub prices`. What `nats pub prices hello` says reaches both meshes.

#[path = "support/command_line.rs"]
mod command_line;

use async_nats::ConnectOptions;
use clap::Parser;
use coalescent::prelude::*;
use coalescent_bridge::{Bridge, Nats};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

/// Joins a mesh to a subject of NATS, and says what it hears.
#[derive(Parser)]
struct Args {
    /// The NATS server, such as nats://127.0.0.1:4222
    server: String,
    /// The subject that carries what the mesh says
    subject: String,
    /// HOST:PORT at which peers are accepted
    listen: String,
    /// HOST:PORT of nodes of the same mesh
    seeds: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let Args {
        server,
        subject,
        listen,
        seeds,
    } = command_line::parse();

    // The server may come later than this node.
    let options = ConnectOptions::new().retry_on_initial_connect();
    let nats = Nats::connect(options, server, subject).await?;
    let bridge = Bridge::new(nats);
    let stats = bridge.stats();

    let mesh = App::new()
        .seeds(seeds)
        .with(SmartRelay::new())
        .plugin(bridge)
        .on_event(|event| {
            if let Event::Error { error, .. } = event {
                println!("* {}", error.report());
            }
        })
        .listen(&listen)
        .await?;

    let mut heard = mesh.reader();
    let mut lines = BufReader::new(stdin()).lines();
    loop {
        tokio::select! {
            Some(frame) = heard.next_frame() => println!("> {}", frame.payload().escape_ascii()),
            line = lines.next_line() => match line? {
                Some(line) => drop(mesh.broadcast_payload(line).await?),
                None => break,
            },
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    mesh.shutdown().await;
    println!("* {stats:?}");
    Ok(())
}
