//! Sends a file to somebody whose key you know.
//!
//! ```text
//! cargo run --example send_file -- COPY            # prints an address, and waits for a file
//! cargo run --example send_file -- FILE ADDRESS
//! ```
//!
//! A mesh is a stream of bytes, so `tokio::io::copy` is all it takes.

#[path = "support/command_line.rs"]
mod command_line;

use std::path::{Path, PathBuf};

use clap::Parser;
use coalescent::{Address, App};
use coalescent_iroh::{Iroh, Quiet};
use iroh::Endpoint;
use tokio::fs::File;
use tokio::io::{AsyncWriteExt, copy};

/// Sends a file to somebody whose key you know, or waits for one.
#[derive(Parser)]
struct Args {
    /// The file to send, or where the one that comes is to be
    file: PathBuf,
    /// Whom to send it to, as the receiver prints it; without it, this is the receiver
    address: Option<Address>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Args = command_line::parse();
    let iroh = Iroh::new(Endpoint::bind(Quiet).await?);
    let (endpoint, address) = (iroh.endpoint().clone(), iroh.address());
    let app = App::new().transport(iroh);
    match &args.address {
        Some(to) => send(app, &to.to_string(), &args.file).await?,
        None => receive(app, &address, &endpoint, &args.file).await?,
    }
    endpoint.close().await;
    Ok(())
}

async fn receive(
    app: App,
    address: &str,
    endpoint: &Endpoint,
    path: &Path,
) -> Result<(), Box<dyn std::error::Error>> {
    let mesh = app.max_inbound(1).listen("iroh:").await?;
    let mut reader = mesh.reader();
    let hints: Vec<_> = endpoint
        .addr()
        .ip_addrs()
        .map(|addr| format!("addr={addr}"))
        .collect();
    println!("{address}?{}", hints.join("&"));
    mesh.connected(1).await?;
    let sender = mesh.peers().list().first().cloned();
    let ending = mesh.clone();
    // The sender leaves after the last byte. That ends the mesh, and with it the reader.
    tokio::spawn(async move {
        if let Some(sender) = sender {
            sender.closed().await;
        }
        ending.shutdown().await;
    });
    let mut file = File::create(path).await?;
    let bytes = copy(&mut reader, &mut file).await?;
    file.flush().await?;
    eprintln!("received {bytes} bytes");
    Ok(())
}

async fn send(app: App, address: &str, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mesh = app.start().await?;
    mesh.connect(address).await?;
    let mut writer = mesh.writer();
    let bytes = copy(&mut File::open(path).await?, &mut writer).await?;
    writer.shutdown().await?;
    let stats = mesh.shutdown().await;
    if stats.dropped > 0 {
        return Err("the other side left before it had all".into());
    }
    eprintln!("sent {bytes} bytes");
    Ok(())
}
