//! A transport of one's own: peers are dialled through a SOCKS5 proxy, such as that of Tor.
//!
//! ```text
//! cargo run --example socks5 -- 127.0.0.1:9050 [ID@]HOST:PORT
//! ```
//!
//! The proxy resolves the name, so that nobody near this machine hears of it. It hides who is here,
//! and an identity proves who is there: with Tor, give `ID@NAME.onion:PORT`.

#[path = "support/command_line.rs"]
mod command_line;

use std::io;
use std::net::SocketAddr;

use clap::Parser;
use coalescent::identity::Identity;
use coalescent::transport::{BoxFuture, Connected, Transport};
use coalescent::{Address, App, Event};
use tokio_socks::tcp::Socks5Stream;

/// Stays connected to a peer through a SOCKS5 proxy, such as that of Tor.
#[derive(Parser)]
struct Args {
    /// Where the proxy is, as HOST:PORT
    #[arg(value_parser = command_line::listen_tcp)]
    proxy: String,
    /// The peer
    #[arg(value_name = "[ID@]HOST:PORT")]
    seed: Address,
}

struct Socks5(String);

/// In place of TCP, for addresses without a scheme. It does not listen.
impl Transport for Socks5 {
    fn connect<'a>(
        &'a self,
        addr: &'a Address,
        _: &'a (dyn Fn(SocketAddr) -> io::Result<()> + Sync), // Where it is, the proxy knows alone.
    ) -> BoxFuture<'a, io::Result<Connected>> {
        Box::pin(async move {
            let stream = Socks5Stream::connect(&*self.0, (addr.host(), addr.port())).await;
            let failed = |error| io::Error::other(format!("the proxy at {}: {error}", self.0));
            Ok(Connected::new(stream.map_err(failed)?.into_inner()))
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Args { proxy, seed } = command_line::parse();
    let app = App::new().identity(Identity::generate());
    let app = app.transport(Socks5(proxy)).seeds([seed.to_string()]);
    let mesh = command_line::usable(app.start().await)?;
    let mut events = mesh.events();
    while let Some(event) = events.next().await {
        match event {
            Event::PeerConnected { peer } => println!("connected to {}", peer.id()),
            Event::Error { error, .. } => println!("{}", error.report()),
            _ => {}
        }
    }
    Ok(())
}
