//! A page as a peer: a chat in browsers, without a build step.
//!
//! ```text
//! cargo run --example browser -- 127.0.0.1:8080      # and open http://127.0.0.1:8080 twice
//! echo 'chat "hello"' |
//!     cargo run --example meshcat -- --seed ws://127.0.0.1:8080/mesh --codec json --once
//! ```
//!
//! A server for strangers needs more: limits of connections and of time, and to know its own name.
//! The example `web` has them.

use std::error::Error;
use std::net::SocketAddr;

use axum::extract::ConnectInfo;
use axum::http::header::CONTENT_TYPE;
use axum::response::Html;
use axum::routing::get;
use coalescent::prelude::*;
use coalescent::upgrade::{Upgrade, WebSocket};
use coalescent::websocket::JAVASCRIPT;

/// Answers a page that asks.
async fn count(mesh: Mesh) -> Message {
    Message::new("count", &mesh.peers().len())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mesh = App::new()
        .with(SmartRelay::new())
        .with(Courier::json())
        .with(Router::new().route("count", count))
        .start()
        .await?;
    let upgrade = Upgrade::new(&mesh)
        .remote_addr(|extensions| {
            let ConnectInfo(addr) = extensions.get::<ConnectInfo<SocketAddr>>()?;
            Some(*addr)
        })
        .websocket(WebSocket::native());
    let site = axum::Router::new()
        .route("/", get(async || Html(include_str!("page.html"))))
        .route(
            "/coalescent.js",
            get(([(CONTENT_TYPE, "text/javascript")], JAVASCRIPT)),
        )
        .route_service("/mesh", upgrade)
        .into_make_service_with_connect_info::<SocketAddr>();
    let addr = std::env::args().nth(1);
    let listener =
        tokio::net::TcpListener::bind(addr.as_deref().unwrap_or("127.0.0.1:8080")).await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, site).await?;
    Ok(())
}
