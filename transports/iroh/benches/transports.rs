//! What each transport costs: two nodes in one process, over loopback.
//!
//! ```text
//! cargo bench --manifest-path transports/iroh/Cargo.toml
//! cargo bench --manifest-path transports/iroh/Cargo.toml -- 3    # so many rounds
//! ```
//!
//! The rounds of all transports take turns, and the table shows medians: frames of 1 KiB in one
//! direction, as fast as they are taken; a request and its answer, one at a time; and how long a
//! connection takes, with all handshakes. Both ends and the encryption share the cores.

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use coalescent::extract::Body;
use coalescent::identity::Identity;
use coalescent::prelude::*;
use coalescent::transport::{BoxFuture, Connected, Listener, Protection, Transport};
use coalescent::websocket::Ws;
use coalescent::{Address, MeshReader, Router};
use coalescent_iroh::{Iroh, Quiet};
use iroh::{Endpoint, RelayMode, RelayUrl};
use iroh_relay::server::{RelayConfig, Server, ServerConfig};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// How many rounds there are, unless an argument says another number.
const ROUNDS: usize = 9;
const FRAMES: u64 = 100_000;
const SIZE: usize = 1024;
const BATCH: usize = 64;
const REQUESTS: usize = 2000;
const CONNECTIONS: usize = 20;

/// The transports, in the order of the table.
const KINDS: [Kind; 7] = [
    Kind::Unix,
    Kind::Tcp,
    Kind::Tls,
    Kind::Ws,
    Kind::WsTls,
    Kind::Iroh,
    Kind::Relayed,
];

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Unix,
    Tcp,
    Tls,
    Ws,
    WsTls,
    Iroh,
    Relayed,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Unix => "Unix socket",
            Self::Tcp => "TCP",
            Self::Tls => "TCP with TLS",
            Self::Ws => "WebSocket",
            Self::WsTls => "WebSocket with TLS inside",
            Self::Iroh => "iroh, direct",
            Self::Relayed => "iroh, by a relay on this machine",
        }
    }
}

/// Unix sockets as a transport.
struct Unix;

impl Transport for Unix {
    fn schemes(&self) -> &[&str] {
        &["unix"]
    }

    fn protection(&self, _: &str) -> Protection {
        Protection::Local
    }

    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let address: Address = addr.parse().map_err(io::Error::other)?;
            let socket = UnixListener::bind(address.path())?;
            Ok(Box::new(UnixSocket { address, socket }) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(
        &'a self,
        addr: &'a Address,
        _: &'a (dyn Fn(SocketAddr) -> io::Result<()> + Sync),
    ) -> BoxFuture<'a, io::Result<Connected>> {
        Box::pin(async move { Ok(Connected::new(UnixStream::connect(addr.path()).await?)) })
    }
}

struct UnixSocket {
    address: Address,
    socket: UnixListener,
}

impl Listener for UnixSocket {
    fn address(&self) -> io::Result<Address> {
        Ok(self.address.clone())
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connected>> {
        Box::pin(async move { Ok(Connected::new(self.socket.accept().await?.0)) })
    }
}

#[derive(Serialize, Deserialize)]
struct Ping {
    number: u64,
}

async fn ping(Body(ping): Body<Ping>) -> Message {
    Message::new("pong", &ping)
}

/// Two nodes, one of which listens at `address`.
struct Pair {
    listens: Mesh,
    dials: Mesh,
    address: String,
    endpoints: Vec<Endpoint>,
    /// Where the Unix socket is.
    _directory: TempDir,
}

impl Pair {
    async fn new(kind: Kind, relay: &RelayUrl, layers: bool) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut endpoints = Vec::new();
        let mut apps = [App::new(), App::new()];
        if let Kind::Tls | Kind::WsTls = kind {
            apps = apps.map(|app| app.identity(Identity::generate()));
        }
        let mut listen = "127.0.0.1:0".to_owned();
        let mut hint = String::new();
        if let Kind::Iroh | Kind::Relayed = kind {
            for _ in 0..2 {
                let builder = Endpoint::builder(Quiet).clear_ip_transports();
                let builder = match kind {
                    Kind::Iroh => builder.bind_addr("127.0.0.1:0")?,
                    _ => builder.relay_mode(RelayMode::custom([relay.clone()])),
                };
                endpoints.push(builder.bind().await?);
            }
            if kind == Kind::Relayed {
                endpoints[0].online().await;
                hint = format!("?relay={relay}");
            } else {
                hint = format!("?addr={}", endpoints[0].bound_sockets()[0]);
            }
            listen = "iroh:".to_owned();
            let [first, second] = apps;
            apps = [
                first.transport(Iroh::new(endpoints[0].clone())),
                second.transport(Iroh::new(endpoints[1].clone())),
            ];
        }
        if let Kind::Ws | Kind::WsTls = kind {
            listen = "ws://127.0.0.1:0/mesh".to_owned();
            apps = apps.map(|app| app.transport(Ws::new()));
        }
        if let Kind::Unix = kind {
            listen = format!("unix:{}", directory.path().join("socket").display());
            apps = apps.map(|app| app.transport(Unix));
        }
        let [first, second] = apps;
        let router = Router::new().route("ping", ping);
        let (listens, dials) = match layers {
            true => (
                first.with(Courier::new()).with(router).start().await?,
                second.with(Courier::new()).start().await?,
            ),
            false => (first.start().await?, second.start().await?),
        };
        let address = listens.listen(&listen).await?.to_string() + &hint;
        Ok(Self {
            listens,
            dials,
            address,
            endpoints,
            _directory: directory,
        })
    }

    /// Returns the frames a second of a round.
    async fn throughput(&self, reader: &mut MeshReader) -> Result<f64> {
        let payload = bytes::Bytes::from(vec![7; SIZE]);
        let begun = Instant::now();
        let dials = self.dials.clone();
        let sender = tokio::spawn(async move {
            for _ in 0..FRAMES / BATCH as u64 {
                let _ = dials
                    .broadcast_payloads(vec![payload.clone(); BATCH])
                    .await?;
            }
            Ok::<_, coalescent::Error>(())
        });
        let mut left = FRAMES / BATCH as u64 * BATCH as u64;
        while left > 0 {
            let frames = reader.next_frames().await.ok_or("the mesh has ended")?;
            left -= frames.count() as u64;
        }
        sender.await??;
        Ok(FRAMES as f64 / begun.elapsed().as_secs_f64())
    }

    /// Returns the times of requests, sorted.
    async fn latency(&self) -> Result<Vec<Duration>> {
        let peer = self
            .dials
            .peers()
            .list()
            .first()
            .cloned()
            .ok_or("no peer")?;
        let mut times = Vec::with_capacity(REQUESTS);
        for number in 0..REQUESTS as u64 {
            let begun = Instant::now();
            peer.request("ping", &Ping { number }).await?;
            times.push(begun.elapsed());
        }
        times.sort();
        Ok(times)
    }

    /// Returns how long a connection takes.
    async fn connecting(&self) -> Result<Duration> {
        let begun = Instant::now();
        let peer = self.dials.connect(&self.address).await?;
        let took = begun.elapsed();
        peer.disconnect("again");
        peer.closed().await;
        while !self.listens.peers().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(took)
    }

    async fn end(self) {
        self.dials.shutdown().await;
        self.listens.shutdown().await;
        for endpoint in self.endpoints {
            endpoint.close().await;
        }
    }
}

/// What the rounds of one transport have measured.
#[derive(Default)]
struct Measured {
    frames: Vec<f64>,
    medians: Vec<Duration>,
    slow: Vec<Duration>,
    connecting: Vec<Duration>,
}

fn median<T: Copy + PartialOrd>(values: &[T]) -> T {
    let mut values = values.to_vec();
    values.sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
    values[values.len() / 2]
}

async fn round(kind: Kind, relay: &RelayUrl, measured: &mut Measured) -> Result<()> {
    let pair = Pair::new(kind, relay, true).await?;
    let mut times = Vec::new();
    for _ in 0..CONNECTIONS {
        times.push(pair.connecting().await?);
    }
    measured.connecting.push(median(&times));
    pair.dials.connect(&pair.address).await?;
    pair.listens.connected(1).await?;
    let times = pair.latency().await?;
    measured.medians.push(times[times.len() / 2]);
    measured.slow.push(times[times.len() * 99 / 100]);
    pair.end().await;
    // Bare frames, which a courier would not take.
    let pair = Pair::new(kind, relay, false).await?;
    let mut reader = pair.listens.reader();
    pair.dials.connect(&pair.address).await?;
    pair.listens.connected(1).await?;
    measured.frames.push(pair.throughput(&mut reader).await?);
    pair.end().await;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut config = ServerConfig::default();
    config.relay = Some(RelayConfig::new((Ipv4Addr::LOCALHOST, 0)));
    let server = Server::spawn(config).await?;
    let relay = server.http_addr().ok_or("no address")?;
    let relay: RelayUrl = format!("http://{relay}").parse()?;
    let mut all: [Measured; KINDS.len()] = Default::default();
    // Cargo adds `--bench`.
    let rounds = std::env::args().find_map(|arg| arg.parse().ok());
    let rounds: usize = rounds.unwrap_or(ROUNDS).max(1);
    for number in 1..=rounds {
        eprintln!("round {number} of {rounds}");
        for (kind, measured) in KINDS.into_iter().zip(&mut all) {
            round(kind, &relay, measured)
                .await
                .map_err(|error| format!("{}: {error}", kind.name()))?;
        }
    }
    println!("| transport | frames of 1 KiB/s | MB/s | request, median | 99 % | connection |");
    println!("|---|--:|--:|--:|--:|--:|");
    for (kind, measured) in KINDS.into_iter().zip(&all) {
        let frames = median(&measured.frames);
        println!(
            "| {} | {:.0} | {:.0} | {:.0} µs | {:.0} µs | {:.2} ms |",
            kind.name(),
            frames,
            frames * SIZE as f64 / 1e6,
            median(&measured.medians).as_secs_f64() * 1e6,
            median(&measured.slow).as_secs_f64() * 1e6,
            median(&measured.connecting).as_secs_f64() * 1e3,
        );
    }
    Ok(())
}
