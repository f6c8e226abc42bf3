//! A transport of one's own: peers are dialled through a SOCKS5 proxy, such as that of Tor.
//!
//! ```text
//! cargo run --example socks5 -- 127.0.0.1:9050 HOST:PORT
//! ```
//!
//! The proxy resolves the name, so that nobody near this machine hears of it. It hides who is here,
//! and an identity proves who is there: with Tor, give `ID@NAME.onion:PORT`.

use std::io;
use std::net::SocketAddr;

use coalescent::identity::Identity;
use coalescent::transport::{BoxFuture, Connected, Listener, Transport};
use coalescent::{Address, App, Event};
use tokio_socks::tcp::Socks5Stream;

struct Socks5 {
    proxy: String,
}

/// In place of TCP, for addresses without a scheme.
impl Transport for Socks5 {
    fn listen<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async { Err(io::Error::other("nobody comes in through a SOCKS5 proxy")) })
    }

    /// Where the peer is, only the proxy knows: there is no address to be permitted.
    fn connect<'a>(
        &'a self,
        addr: &'a Address,
        _permit: &'a (dyn Fn(SocketAddr) -> io::Result<()> + Sync),
    ) -> BoxFuture<'a, io::Result<Connected>> {
        Box::pin(async move {
            let target = (addr.host(), addr.port());
            let stream = Socks5Stream::connect(&*self.proxy, target).await;
            let stream = stream.map_err(|error| {
                io::Error::other(format!("the proxy at {}: {error}", self.proxy))
            })?;
            Ok(Connected::new(stream.into_inner()))
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [proxy, seed] = args
        .try_into()
        .map_err(|_| "usage: socks5 PROXY [ID@]HOST:PORT")?;
    let mesh = App::new()
        .identity(Identity::generate())
        .transport(Socks5 { proxy })
        .seeds([seed])
        .start()
        .await?;
    let mut events = mesh.events();
    while let Some(event) = events.next().await {
        match event {
            Event::PeerConnected { peer } => println!("connected to {}", peer.id()),
            Event::PeerDisconnected { reason, .. } => println!("disconnected: {reason}"),
            Event::Error { error, .. } => println!("{error}"),
            _ => {}
        }
    }
    Ok(())
}
