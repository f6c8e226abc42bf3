//! A transport of one's own: peers on one machine, over Unix sockets. Who may connect is up to the
//! permissions of the file. A line that is typed into one goes to all others.
//!
//! ```text
//! cargo run --example unix_socket -- listen unix:/tmp/mesh.sock
//! cargo run --example unix_socket -- seed unix:/tmp/mesh.sock
//! ```

#[path = "support/command_line.rs"]
mod command_line;

use std::net::SocketAddr;
use std::{fs, io};

use clap::{Parser, ValueEnum};
use coalescent::transport::{BoxFuture, Connected, Listener, Protection, Transport};
use coalescent::{Address, App};
use tokio::io::{copy, stdin, stdout};
use tokio::net::{UnixListener, UnixStream};

/// Peers on one machine, over Unix sockets.
#[derive(Parser)]
struct Args {
    /// Whether to make the socket, or to connect to it
    verb: Verb,
    /// The socket
    #[arg(value_name = "unix:/PATH", value_parser = socket)]
    address: Address,
}

fn socket(text: &str) -> Result<Address, &'static str> {
    let address = text.parse().ok();
    let address = address.filter(|address: &Address| address.scheme() == "unix");
    address.ok_or("write unix:/PATH")
}

#[derive(Clone, Copy, ValueEnum)]
enum Verb {
    Listen,
    Seed,
}

struct Unix;

impl Transport for Unix {
    fn schemes(&self) -> &[&str] {
        &["unix"]
    }

    fn protection(&self, _: &str) -> Protection {
        Protection::Local // Nothing leaves the machine, so that no identity is needed.
    }

    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let address: Address = addr.parse().map_err(io::Error::other)?;
            let there = UnixStream::connect(address.path()).await;
            if there.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
                fs::remove_file(address.path())?; // Left by a program that has ended.
            }
            let socket = UnixListener::bind(address.path())?;
            Ok(Box::new(Bound(socket, address)) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(
        &'a self,
        addr: &'a Address,
        _: &'a (dyn Fn(SocketAddr) -> io::Result<()> + Sync),
    ) -> BoxFuture<'a, io::Result<Connected>> {
        Box::pin(async { Ok(Connected::new(UnixStream::connect(addr.path()).await?)) })
    }
}

struct Bound(UnixListener, Address);

impl Listener for Bound {
    fn address(&self) -> io::Result<Address> {
        Ok(self.1.clone())
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connected>> {
        Box::pin(async { Ok(Connected::new(self.0.accept().await?.0)) })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Args = command_line::parse();
    let (app, addr) = (App::new().transport(Unix), args.address.to_string());
    let mesh = command_line::usable(match args.verb {
        Verb::Listen => app.listen(addr).await,
        Verb::Seed => app.seeds([addr]).start().await,
    })?;
    // Before anybody is there: what comes while nobody reads is discarded.
    let (mut heard, mut said) = (mesh.reader(), mesh.writer());
    let (mut typed, mut shown) = (stdin(), stdout());
    mesh.connected(1).await?;
    tokio::select! {
        done = copy(&mut typed, &mut said) => done?,
        done = copy(&mut heard, &mut shown) => done?,
    };
    mesh.shutdown().await;
    Ok(())
}
