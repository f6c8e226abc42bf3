//! A replicated key-value store: each node holds everything, and the last write to a key wins.
//!
//! In three terminals, start three nodes. The second and the third know the first alone:
//!
//! ```text
//! cargo run --example store -- --listen 127.0.0.1:1337
//! cargo run --example store -- --seed 127.0.0.1:1337
//! cargo run --example store -- --seed 127.0.0.1:1337
//! ```
//!
//! Type `set color red` in one, and `list` in another. Then end the first with Ctrl-C, which parts
//! the others, and set the color to something else in each. Start the first again: it comes back
//! with nothing, gets everything, and all three have the color that was set last.
//!
//! `replica` decides what is stored, `sync` keeps it the same everywhere. Nothing is on disk: the
//! store lives as long as one of its nodes. `docs/replication.md` says what else it is not.

#[path = "../support/command_line.rs"]
mod command_line;
mod replica;
mod sync;

use std::io::{Write, stdin};
use std::pin::pin;

use clap::Parser;
use coalescent::Address;
use coalescent::prelude::*;
use sync::Store;
use tokio::sync::mpsc;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A replicated key-value store.
///
/// Lines of stdin are commands: set KEY VALUE, get KEY, del KEY, list.
#[derive(Parser)]
struct Args {
    /// Accept peers here.
    #[arg(long, value_name = "HOST:PORT", value_parser = command_line::listen)]
    listen: Option<String>,
    /// Stay connected to this node. May be repeated.
    #[arg(long, value_name = "HOST:PORT")]
    seed: Vec<Address>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args: Args = command_line::parse();
    let store = Store::new();
    let mesh = App::new()
        .network("example/store")
        .max_frame(sync::FRAME_MAX)
        .seeds(args.seed.iter().map(Address::to_string))
        .plugin(store.clone()) // asks each peer for what this node lacks
        .with(SmartRelay::new()) // brings each write to everybody, once
        .with(Courier::new())
        .with(store.router())
        .on_event(show)
        .start()
        .await?;
    if let Some(addr) = args.listen {
        command_line::usable(mesh.listen(&addr).await)?;
    }

    let (mut lines, mut stop) = (keyboard(), pin!(tokio::signal::ctrl_c()));
    loop {
        tokio::select! {
            // After the last line the node goes on for the others.
            Some(line) = lines.recv() => {
                let answer = obey(&line, &store, &mesh).await;
                let answer = answer.unwrap_or_else(|why| format!("{why}\n"));
                std::io::stdout().write_all(answer.as_bytes())?;
            }
            _ = &mut stop => break,
        }
    }
    mesh.shutdown().await;
    Ok(())
}

/// Reads lines in a thread, which does not keep the program from ending as a task would.
fn keyboard() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut read = stdin().lines().map_while(std::io::Result::ok);
        while read
            .next()
            .is_some_and(|line| sender.blocking_send(line).is_ok())
        {}
    });
    lines
}

/// Does what a line says, and returns what there is to print.
async fn obey(line: &str, store: &Store, mesh: &Mesh) -> Result<String> {
    let mut words = line.trim().splitn(3, ' ');
    let words = (words.next(), words.next(), words.next());
    match words {
        (Some("set"), Some(key), Some(value)) => store.write(mesh, key, Some(value)).await?,
        (Some("del"), Some(key), None) => store.write(mesh, key, None).await?,
        (Some("get"), Some(key), None) => {
            let value = store.get(key).ok_or("not set")?;
            return Ok(format!("{}\n", value.escape_debug()));
        }
        (Some("list"), None, None) => {
            let entry = |(key, value): (String, String)| {
                // Escaped, since text of others could manipulate the terminal.
                format!("{} = {}\n", key.escape_debug(), value.escape_debug())
            };
            return Ok(store.list().into_iter().map(entry).collect());
        }
        _ => return Err("write set KEY VALUE, get KEY, del KEY, or list".into()),
    }
    Ok(String::new())
}

/// Shows on stderr who comes and leaves, and what goes wrong.
fn show(event: Event) {
    let line = match event {
        Event::Listening { addr } => format!("listening on {addr}"),
        Event::PeerConnected { peer } => format!("{} has come", peer.id()),
        Event::PeerDisconnected { peer, reason } => format!("{} left: {reason}", peer.id()),
        Event::Error { error, .. } => error.report().to_string(),
        _ => return,
    };
    eprintln!("* {line}");
}
