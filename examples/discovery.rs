//! Nodes that find each other, and that stay together when the one they began with is gone.
//!
//! In three terminals, start three nodes. The second and the third know the first alone:
//!
//! ```text
//! cargo run --example discovery -- 127.0.0.1:7001
//! cargo run --example discovery -- 127.0.0.1:7002 127.0.0.1:7001
//! cargo run --example discovery -- 127.0.0.1:7003 127.0.0.1:7001
//! ```
//!
//! Each line that is typed reaches the others. End the first with Ctrl-C: the other two have found
//! each other. Start it again without a seed: it dials those that stand in its book.

#[path = "support/command_line.rs"]
mod command_line;

use clap::Parser;
use coalescent::discovery::Discovery;
use coalescent::extract::Body;
use coalescent::prelude::*;
use coalescent::{Address, Router};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

/// Nodes that find each other, and that stay together when the one they began with is gone.
#[derive(Parser)]
struct Args {
    /// Accept peers here, as HOST:PORT; the name of the book has it too
    #[arg(value_parser = command_line::listen_tcp)]
    listen: String,
    /// Stay connected to these, as HOST:PORT
    #[arg(value_name = "SEED")]
    seeds: Vec<Address>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Args { listen, seeds } = command_line::parse();
    let book = format!("discovery-{}.book", listen.replace(':', "-"));

    let listening = App::new()
        .network("example/discovery")
        .seeds(seeds.iter().map(Address::to_string))
        .with(Discovery::new().book(std::env::temp_dir().join(book)))
        .with(SmartRelay::new())
        .with(Courier::new())
        .with(Router::new().route("said", ends(hear)))
        .on_event(show)
        .listen(&listen)
        .await;
    let mesh = command_line::usable(listening)?;

    let mut lines = BufReader::new(stdin()).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => match line? {
                Some(line) => drop(mesh.broadcast("said", &line).await?),
                None => break,
            },
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    // Saves the book, too.
    mesh.shutdown().await;
    Ok(())
}

async fn hear(Body(line): Body<String>) {
    println!("> {}", line.escape_debug());
}

/// Shows what is found, who comes, and who leaves.
fn show(event: Event) {
    match event {
        Event::Discovered { addr, source } => println!("* learned of {addr} from {source}"),
        Event::PeerConnected { peer } => println!("* {} peer {}", peer.direction(), peer.id()),
        Event::PeerDisconnected { peer, reason } => println!("* {} left: {reason}", peer.id()),
        Event::Error { error, .. } => println!("* {}", error.report()),
        _ => {}
    }
}
