//! A mesh in a web server: serves HTTP, and turns connections that upgrade into peers.
//!
//! ```text
//! cargo run --example web -- --http 127.0.0.1:8080 --listen 127.0.0.1:1337
//! ```
//!
//! Open <http://127.0.0.1:8080> in two browsers and chat. Or chat from a terminal, over TCP:
//!
//! ```text
//! echo 'chat {"handle":"me","text":"hello"}' |
//!     cargo run --example meshcat -- --seed 127.0.0.1:1337 --codec json --once
//! ```
//!
//! | path | response |
//! |---|---|
//! | `/` | the chat page |
//! | `/mesh` | turns the connection into a peer, see below |
//! | `/peers` | the connected peers, as JSON |
//! | `/metrics` | the metrics, for Prometheus |
//!
//! Browsers join with `Upgrade: websocket`, programs with `Upgrade: coalescent/1`.
//!
//! The resources that strangers can use are bounded: connections in total and per address, the time
//! for a request, and the rate at which a browser is read. Other servers relay messages of many
//! users and have no rate limit.

mod args;
#[path = "../support/command_line.rs"]
mod command_line;
mod join;
mod places;
mod serve;
mod site;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use args::Args;
use coalescent::{
    Address, App, AppExt, Config, Courier, Mesh, Peer, SmartRelay, TraceContext, Wire,
};
use coalescent_router::Router;
use coalescent_router::extract::Body;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use places::Places;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tower::limit::GlobalConcurrencyLimitLayer;

/// Limit of requests and frames being handled at the same time.
const AT_ONCE: usize = 256;

/// Limit of peers that connect over TCP, or join over HTTP.
const MAX_INBOUND: usize = 512;

/// Limit of a message, in bytes. Lines of a chat are short.
const MAX_FRAME: usize = 64 * 1024;

fn main() -> ExitCode {
    let args: Args = command_line::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let result = tokio::runtime::Runtime::new()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(run(args)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = %coalescent::report(&*error), "cannot go on");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), Box<dyn Error + Send + Sync>> {
    // Install the recorder first, so that it receives all metrics.
    let metrics = recorder()?;
    // One limit for the whole process: for HTTP requests and for frames from peers.
    let limit = GlobalConcurrencyLimitLayer::new(AT_ONCE);

    let mesh = command_line::usable(mesh(&args, limit.clone()).await)?;
    let listener = TcpListener::bind(&args.http).await?;
    let addr = listener.local_addr()?;
    if !addr.ip().is_loopback() && !args.allow_plaintext {
        command_line::refuse(format!(
            "{addr} is not a loopback address: put a server that speaks TLS in front of a loopback \
             address, or give --allow-plaintext to let everyone on the way read and change what is said"
        ));
    }
    // For scripts. It does not matter if nobody reads it.
    let _ = writeln!(std::io::stdout(), "http://{addr}");

    let places = Places::new(args.connections, args.per_address);
    let site = site::router(mesh.clone(), metrics, args.hosts, limit);
    tokio::select! {
        () = serve::serve(listener, site, places) => {}
        () = asked_to_leave() => {}
    }
    mesh.shutdown().await;
    Ok(())
}

/// Starts the mesh, whose peers connect over TCP, are dialled, or join over HTTP.
async fn mesh(args: &Args, limit: GlobalConcurrencyLimitLayer) -> Result<Mesh, coalescent::Error> {
    let mut config = Config::default();
    config.max_frame = MAX_FRAME;
    config.max_inbound = MAX_INBOUND;
    // Behind another server all come from one address.
    config.max_per_ip = args.per_address;
    config.allow_plaintext = args.allow_plaintext;
    let mesh = App::from_config(config)
        .seeds(args.seeds.iter().map(Address::to_string))
        .layer(limit)
        .with(Courier::json())
        .with(TraceContext::new())
        // Inside the courier, so that only valid messages are relayed to browsers.
        .with(SmartRelay::new())
        .with(Router::new().route("chat", name_browser))
        .start()
        .await?;
    if let Some(addr) = &args.listen {
        mesh.listen(addr).await?;
    }
    if let Some(addr) = &args.lines {
        mesh.listen_wire(addr, Wire::lines()).await?;
    }
    Ok(mesh)
}

/// A line of the chat.
#[derive(Deserialize)]
struct Line {
    handle: String,
}

/// The name that a user has chosen.
#[derive(Clone)]
struct Handle(String);

/// Records the name of a browser's user. Other peers relay lines of several users, so the name in a
/// line is not necessarily the peer's.
async fn name_browser(peer: Peer, Body(line): Body<Line>) {
    if peer.get::<join::Browser>().is_some() {
        peer.set(Handle(line.handle.chars().take(32).collect()));
    }
}

fn recorder() -> Result<PrometheusHandle, Box<dyn Error + Send + Sync>> {
    let seconds = [0.0001, 0.001, 0.01, 0.1, 1.0, 10.0];
    let suffix = Matcher::Suffix("_seconds".to_owned());
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(suffix, &seconds)?
        .install_recorder()?;
    Ok(handle)
}

async fn asked_to_leave() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
