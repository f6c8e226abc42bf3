//! One port for a website and a mesh: the first byte of a connection tells which of them it is for.
//!
//! ```text
//! cargo run --example one_port -- 127.0.0.1:8080
//! curl http://127.0.0.1:8080/                 # how many peers are connected
//! echo hello | cargo run --example meshcat -- --seed 127.0.0.1:8080
//! ```
//!
//! What begins with a byte 0 is a peer; a node with an identity would begin with TLS, 0x16, and its
//! mesh would speak it. All else is HTTP.

#[path = "support/command_line.rs"]
mod command_line;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use clap::Parser;
use coalescent::{App, Error, Mesh};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Limit of connections that have said nothing yet, or are served by the website.
const MAX_OPEN: usize = 256;

/// Timeout for the first byte, and for the head of a request.
const FIRST: Duration = Duration::from_secs(5);

/// One port for a website and a mesh.
#[derive(Parser)]
struct Args {
    /// Serve both here; port 0 takes a free one
    #[arg(value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    #[arg(value_parser = command_line::listen_tcp)]
    listen: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Args = command_line::parse();
    let listener = TcpListener::bind(&args.listen).await?;
    let mesh = App::new().start().await?;
    println!("{}", listener.local_addr()?);

    let peers = mesh.peers().clone();
    let site = Router::new().route("/", get(async move || format!("{} peers\n", peers.len())));
    let open = Arc::new(Semaphore::new(MAX_OPEN));
    loop {
        let (socket, addr) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                eprintln!("a connection was not accepted: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Without a place, the connection is closed at once.
        if let Ok(place) = Arc::clone(&open).try_acquire_owned() {
            let (mesh, site) = (mesh.clone(), site.clone());
            tokio::spawn(async move {
                let mut first = [0];
                // The byte stays in the socket.
                match timeout(FIRST, socket.peek(&mut first)).await {
                    Ok(Ok(1)) if is_peer(first[0]) => {
                        // From here on the limits of the mesh hold.
                        drop(place);
                        if let Err(error) = join(socket, addr, &mesh).await {
                            eprintln!("no peer: {}", error.report());
                        }
                    }
                    Ok(Ok(1)) => serve(socket, site).await,
                    _ => {}
                }
            });
        }
    }
}

/// Returns whether a connection that begins with this byte is a peer: on the native wire, or with
/// TLS before it. See `coalescent::wire`.
fn is_peer(first: u8) -> bool {
    matches!(first, 0x00 | 0x16)
}

async fn join(socket: TcpStream, addr: SocketAddr, mesh: &Mesh) -> Result<(), Error> {
    let peer = mesh.accept(socket, addr).await?;
    eprintln!("{} is connected", peer.id());
    Ok(())
}

async fn serve(socket: TcpStream, site: Router) {
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(FIRST)
        .serve_connection(TokioIo::new(socket), TowerToHyperService::new(site));
    if let Err(error) = served.await {
        eprintln!("a request failed: {}", coalescent::report(&error));
    }
}
