//! A page as a peer: a chat in browsers, without a build step.
//!
//! ```text
//! cargo run --example browser -- 127.0.0.1:8080     # and open http://127.0.0.1:8080 twice
//! cargo run --example meshcat -- --seed ws://127.0.0.1:8080/mesh --codec json  # chat "hello"
//! ```
//!
//! A server for strangers needs limits of connections and of time: see the example `web`.

#[path = "../support/command_line.rs"]
mod command_line;

use std::net::SocketAddr;

use axum::extract::ConnectInfo;
use axum::http::header::CONTENT_TYPE;
use axum::response::Html;
use axum::routing::get;
use clap::Parser;
use coalescent::Router;
use coalescent::prelude::*;
use coalescent::upgrade::{Upgrade, WebSocket};
use coalescent::websocket::JAVASCRIPT;

/// A page as a peer: a chat in browsers.
#[derive(Parser)]
struct Args {
    /// Serve the page here; port 0 takes a free one
    #[arg(value_name = "HOST:PORT", value_parser = command_line::listen_tcp)]
    listen: String,
}

/// Answers a page that asks.
async fn count(mesh: Mesh) -> Message {
    Message::new("count", &mesh.peers().len())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Args = command_line::parse();
    let app = App::new().with(SmartRelay::new()).with(Courier::json());
    let mesh = app
        .with(Router::new().route("count", count))
        .start()
        .await?;
    let upgrade = Upgrade::new(&mesh)
        .websocket(WebSocket::native())
        .remote_addr(|extensions| extensions.get().map(|ConnectInfo(addr)| *addr));
    let script = ([(CONTENT_TYPE, "text/javascript")], JAVASCRIPT);
    let site = axum::Router::new()
        .route("/", get(Html(include_str!("page.html"))))
        .route("/coalescent.js", get(script))
        .route_service("/mesh", upgrade)
        .into_make_service_with_connect_info::<SocketAddr>();
    let listener = tokio::net::TcpListener::bind(args.listen).await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, site).await?;
    Ok(())
}
