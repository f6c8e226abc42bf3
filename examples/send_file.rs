//! Sends a file to one peer while the chat goes on: a stream beside the messages.
//!
//! ```text
//! cargo run --example send_file -- 127.0.0.1:1337          # listens, and keeps what it is sent
//! cargo run --example send_file -- 127.0.0.1:1337 FILE     # connects, and sends a file
//! ```
//!
//! What is typed on either side is said to all peers meanwhile. Files are kept as `received-N`.

#[path = "support/command_line.rs"]
mod command_line;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Parser;
use coalescent::streams::{PeerStream, PeerStreamsExt, Streams};
use coalescent::{App, AppExt, Peer};
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy, empty, stdin};

/// Sends a file to one peer while the chat goes on. What is typed is said to all peers.
#[derive(Parser)]
struct Args {
    /// Listen here, and keep what is sent as received-N; with FILE, connect there
    #[arg(value_name = "HOST:PORT", value_parser = command_line::listen)]
    addr: String,
    /// Send this file
    file: Option<PathBuf>,
}

static RECEIVED: AtomicUsize = AtomicUsize::new(1);

async fn receive(mut stream: PeerStream) -> io::Result<()> {
    let name = format!("received-{}", RECEIVED.fetch_add(1, Ordering::Relaxed));
    let mut file = File::create_new(&name).await?;
    let bytes = copy(&mut stream, &mut file).await?;
    file.flush().await?;
    println!("{name}: {bytes} bytes");
    // The end of this direction tells the sender that all is there.
    stream.shutdown().await
}

async fn send(peer: Peer, path: PathBuf) -> io::Result<()> {
    let mut stream = peer.open("file").await?;
    let bytes = copy(&mut File::open(&path).await?, &mut stream).await?;
    stream.shutdown().await?;
    copy(&mut stream, &mut empty()).await?;
    println!("sent {bytes} bytes");
    Ok(())
}

async fn told(what: &str, done: impl Future<Output = io::Result<()>>) {
    if let Err(error) = done.await {
        eprintln!("{what}: {}", coalescent::report(&error));
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Args { addr, file } = command_line::parse();
    let streams = Streams::new().on("file", |stream| told("not received", receive(stream)));
    let mesh = App::new().plugin(streams).start().await?;
    let mut chat = mesh.reader();
    match file {
        None => {
            let listening = mesh.listen(&addr).await;
            println!("listening on {}", command_line::usable(listening)?);
        }
        Some(path) => {
            let peer = command_line::usable(mesh.connect(&addr).await)?;
            tokio::spawn(told("not sent", send(peer, path)));
        }
    }
    let mut lines = BufReader::new(stdin()).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => match line? {
                Some(line) => drop(mesh.broadcast_payload(line).await?),
                None => break,
            },
            Some(frame) = chat.next_frame() => {
                println!("{}: {}", frame.peer().id(), String::from_utf8_lossy(frame.payload()));
            }
        }
    }
    mesh.shutdown().await;
    Ok(())
}
