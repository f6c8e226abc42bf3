//! A mesh in a web server: one process that serves HTTP, and makes peers of the connections that
//! upgrade.
//!
//! ```text
//! cargo run --example web -- --http 127.0.0.1:8080 --listen 127.0.0.1:1337
//! ```
//!
//! Open <http://127.0.0.1:8080> in two browsers and talk. Or talk from a terminal, over TCP:
//!
//! ```text
//! echo 'chat {"handle":"me","text":"hello"}' |
//!     cargo run --example meshcat -- --seed 127.0.0.1:1337 --codec json --once
//! ```
//!
//! | path | answers |
//! |---|---|
//! | `/` | the chat page |
//! | `/mesh` | makes a peer of the connection: `Upgrade: websocket` for browsers, `Upgrade: coalescent/1` for programs |
//! | `/peers` | who is connected, as JSON |
//! | `/metrics` | what is counted, as Prometheus reads it |
//!
//! What strangers can take is bounded: connections in all and of one address, the time for a
//! request, and how fast a browser is read. Other servers pass on what many say, and are not held
//! to a browser's pace.

mod args;
mod join;
mod places;
mod serve;
mod site;
mod websocket;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use args::Args;
use coalescent::{App, AppExt, Config, Courier, Mesh, Peer, SmartRelay, TraceContext, Wire};
use coalescent_router::Router;
use coalescent_router::extract::Body;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use places::Places;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tower::limit::GlobalConcurrencyLimitLayer;

/// How many requests and frames are worked on at a time, all together.
const AT_ONCE: usize = 256;

/// The largest message, in bytes: a line of a chat is short.
const MAX_FRAME: usize = 64 * 1024;

fn main() -> ExitCode {
    let args = match args::parse() {
        Ok(Some(args)) => args,
        Ok(None) => {
            let _ = std::io::stdout().write_all(args::HELP.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "web: {error}");
            return ExitCode::from(2);
        }
    };
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
            tracing::error!(error, "cannot go on");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), Box<dyn Error + Send + Sync>> {
    // First, so that all that is counted goes there.
    let metrics = recorder()?;
    // One limit for all that this process does: what arrives over HTTP, and what peers send.
    let limit = GlobalConcurrencyLimitLayer::new(AT_ONCE);

    let mesh = mesh(&args, limit.clone()).await?;
    let listener = TcpListener::bind(&args.http).await?;
    let addr = listener.local_addr()?;
    if !addr.ip().is_loopback() && !args.allow_plaintext {
        return Err(format!(
            "{addr} is not a loopback address: put a server that speaks TLS in front of a loopback \
             address, or give --allow-plaintext to let everyone on the way read and change what is said"
        )
        .into());
    }
    // Scripts read this; that nobody does is no reason to end.
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

/// The peers: those that dial over TCP, those that are dialled, and those that come over HTTP.
async fn mesh(args: &Args, limit: GlobalConcurrencyLimitLayer) -> Result<Mesh, coalescent::Error> {
    let mut config = Config::default();
    config.max_frame = MAX_FRAME;
    config.allow_plaintext = args.allow_plaintext;
    let mesh = App::from_config(config)
        .seeds(&args.seeds)
        .layer(limit)
        .with(Courier::json())
        .with(TraceContext::new())
        // Inside the courier: nothing is passed on to a browser that is no message.
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

/// What is said in the chat.
#[derive(Deserialize)]
struct Line {
    handle: String,
}

/// The name that a peer has given itself.
#[derive(Clone)]
struct Handle(String);

/// Remembers what a browser calls itself. Of other peers' lines nobody knows who of those behind
/// them said it.
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
