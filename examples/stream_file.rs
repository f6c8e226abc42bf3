//! Sends a file to every peer. A mesh is a stream of bytes, so `tokio::io::copy` is all it takes.
//!
//! ```text
//! cargo run --example stream_file -- receive COPY --listen 127.0.0.1:1337
//! cargo run --example stream_file -- send FILE --seed 127.0.0.1:1337
//! ```
//!
//! The sender starts when the first peer has connected, or the Nth with `--peers N`. Either side
//! may listen.

#[path = "support/command_line.rs"]
mod command_line;

use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};
use coalescent::Address;
use coalescent::prelude::*;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Sends a file to peers, with a progress bar. Either side may listen.
#[derive(Parser)]
struct Args {
    /// What to do
    verb: Verb,
    /// The file that is sent, or made
    file: PathBuf,
    /// Accept peers here
    #[arg(long, value_name = "HOST:PORT", value_parser = command_line::listen)]
    listen: Option<String>,
    /// Stay connected to this seed (repeatable)
    #[arg(long = "seed", value_name = "HOST:PORT")]
    seeds: Vec<Address>,
    /// Send once N peers are connected
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = command_line::number(1..=usize::MAX))]
    peers: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Verb {
    Send,
    Receive,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args: Args = command_line::parse();
    if args.listen.is_none() && args.seeds.is_empty() {
        command_line::refuse("nobody to talk to: give --listen HOST:PORT or --seed HOST:PORT");
    }
    let mesh = App::new().start().await?;
    match args.verb {
        Verb::Send => {
            open(&mesh, &args).await?;
            send(&mesh, &args.file, args.peers).await
        }
        Verb::Receive => {
            // Create the reader before a peer can connect, so that no frame is discarded.
            let reader = mesh.reader();
            open(&mesh, &args).await?;
            receive(&mesh, reader, &args.file).await
        }
    }
}

async fn open(mesh: &Mesh, args: &Args) -> Result<()> {
    if let Some(addr) = &args.listen {
        let listening = mesh.listen(addr).await;
        eprintln!("listening on {}", command_line::usable(listening)?);
    }
    for seed in &args.seeds {
        command_line::usable(mesh.add_seed(&seed.to_string()))?;
    }
    Ok(())
}

async fn send(mesh: &Mesh, path: &Path, peers: usize) -> Result<()> {
    let file = File::open(path).await?;
    let size = file.metadata().await?.len();
    wait_for(mesh, peers).await?;
    let mut mesh_writer = mesh.writer();
    mesh_writer.write_u64(size).await?;
    let bar = bar(size);
    tokio::io::copy(&mut bar.wrap_async_read(file), &mut mesh_writer).await?;
    // Wait until the queued bytes have been written to the peers.
    mesh_writer.shutdown().await?;
    bar.finish();
    let sent = mesh_writer.sent();
    mesh.shutdown().await;
    if sent.dropped > 0 {
        return Err("a peer left before it had all of the file".into());
    }
    eprintln!("sent {size} bytes");
    Ok(())
}

async fn receive(mesh: &Mesh, mut reader: coalescent::MeshReader, path: &Path) -> Result<()> {
    wait_for(mesh, 1).await?;
    // The sender disconnects after the last byte. Shut this mesh down then, which ends the reader.
    let ending = mesh.clone();
    let sender = mesh.peers().list().first().cloned();
    tokio::spawn(async move {
        if let Some(sender) = sender {
            sender.closed().await;
        }
        ending.shutdown().await;
    });
    let size = reader.read_u64().await?;
    let bar = bar(size);
    let mut file = File::create(path).await?;
    let copied = tokio::io::copy(&mut bar.wrap_async_read(reader.take(size)), &mut file).await?;
    file.flush().await?;
    bar.finish();
    if copied < size {
        return Err(format!("the sender left after {copied} of {size} bytes").into());
    }
    eprintln!("received {size} bytes");
    Ok(())
}

/// Waits until `peers` peers are connected.
async fn wait_for(mesh: &Mesh, peers: usize) -> Result<()> {
    let mut events = mesh.events();
    while mesh.peers().len() < peers {
        events.next().await.ok_or("the mesh has ended")?;
    }
    Ok(())
}

fn bar(size: u64) -> ProgressBar {
    let style = "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    ProgressBar::new(size).with_style(
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
    )
}
