//! A transport of one's own: peers on one machine, over Unix sockets.
//!
//! ```text
//! cargo run --example unix_socket -- listen unix:/tmp/mesh.sock
//! cargo run --example unix_socket -- seed unix:/tmp/mesh.sock
//! ```
//!
//! A line that is typed into one goes to all others. Who may connect is up to the permissions of
//! the file, and of its directory.

use std::io;
use std::net::SocketAddr;

use coalescent::transport::{BoxFuture, Connected, Listener, Protection, Transport};
use coalescent::{Address, App, Mesh};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};
use tokio::net::{UnixListener, UnixStream};

struct Unix;

impl Transport for Unix {
    fn schemes(&self) -> &[&str] {
        &["unix"]
    }

    /// Nothing leaves the machine, so that no identity is needed.
    fn protection(&self, _: &str) -> Protection {
        Protection::Local
    }

    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let address: Address = addr.parse().map_err(io::Error::other)?;
            let path = address.path();
            // The file of a program that has ended stays.
            if let Err(error) = UnixStream::connect(path).await
                && error.kind() == io::ErrorKind::ConnectionRefused
            {
                std::fs::remove_file(path)?;
            }
            let socket = UnixListener::bind(path)?;
            Ok(Box::new(Bound { socket, address }) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(
        &'a self,
        addr: &'a Address,
        _permit: &'a (dyn Fn(SocketAddr) -> io::Result<()> + Sync),
    ) -> BoxFuture<'a, io::Result<Connected>> {
        Box::pin(async { Ok(Connected::new(UnixStream::connect(addr.path()).await?)) })
    }
}

struct Bound {
    socket: UnixListener,
    address: Address,
}

impl Listener for Bound {
    fn address(&self) -> io::Result<Address> {
        Ok(self.address.clone())
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connected>> {
        Box::pin(async { Ok(Connected::new(self.socket.accept().await?.0)) })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let app = App::new().transport(Unix);
    let mesh: Mesh = match &args[..] {
        [verb, addr] if verb == "listen" => app.listen(addr).await?,
        [verb, addr] if verb == "seed" => app.seeds([addr]).start().await?,
        _ => return Err("usage: unix_socket listen|seed unix:/PATH".into()),
    };
    let mut heard = mesh.reader();
    // What is said before goes to nobody.
    mesh.connected(1).await?;
    let mut lines = BufReader::new(stdin()).lines();
    loop {
        tokio::select! {
            frame = heard.next_frame() => match frame {
                Some(frame) => println!("{}", String::from_utf8_lossy(frame.payload())),
                None => return Ok(()),
            },
            line = lines.next_line() => match line? {
                Some(line) => drop(mesh.broadcast_payload(line).await?),
                None => break,
            },
        }
    }
    mesh.shutdown().await;
    Ok(())
}
