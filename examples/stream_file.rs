//! Sends a file to every peer. A mesh is a stream of bytes, so `tokio::io::copy` is all it takes.
//!
//! ```text
//! cargo run --example stream_file -- receive COPY --listen 127.0.0.1:1337
//! cargo run --example stream_file -- send FILE --seed 127.0.0.1:1337
//! ```
//!
//! The sender starts when the first peer has connected, or the Nth with `--peers N`. Either side
//! may listen.

use std::path::{Path, PathBuf};

use coalescent::prelude::*;
use indicatif::{ProgressBar, ProgressStyle};
use lexopt::prelude::*;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Result<()> {
    let (mut words, mut listen, mut seeds, mut peers) = (Vec::new(), None, Vec::new(), 1);
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            Long("listen") => listen = Some(args.value()?.string()?),
            Long("seed") => seeds.push(args.value()?.string()?),
            Long("peers") => peers = args.value()?.parse()?,
            Value(word) => words.push(word),
            other => return Err(other.unexpected().into()),
        }
    }
    let [verb, file] = &words[..] else {
        return Err("write send FILE or receive FILE, and --listen or --seed HOST:PORT".into());
    };
    let file = PathBuf::from(file);

    let mesh = App::new().start().await?;
    match verb.to_str() {
        Some("send") => {
            open(&mesh, listen, &seeds).await?;
            send(&mesh, &file, peers).await
        }
        Some("receive") => {
            // Create the reader before a peer can connect, so that no frame is discarded.
            let reader = mesh.reader();
            open(&mesh, listen, &seeds).await?;
            receive(&mesh, reader, &file).await
        }
        _ => Err("the first word is send or receive".into()),
    }
}

async fn open(mesh: &Mesh, listen: Option<String>, seeds: &[String]) -> Result<()> {
    if let Some(addr) = listen {
        eprintln!("listening on {}", mesh.listen(&addr).await?);
    }
    for seed in seeds {
        mesh.add_seed(seed)?;
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
