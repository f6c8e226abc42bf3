//! A first program: two nodes, one of which sends requests that the other answers.
//!
//! ```text
//! cargo run --example hello
//! ```

#[path = "support/command_line.rs"]
mod command_line;

use coalescent::Router;
use coalescent::extract::Body;
use coalescent::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Ping {
    time: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Pong {
    time: u64,
}

/// Handles messages of type `ping`. The returned message is sent back to the peer.
async fn ping(Body(ping): Body<Ping>) -> impl IntoReply {
    Message::new("pong", &Pong { time: ping.time })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    command_line::none("Two nodes, one of which sends requests that the other answers");
    // Every middleware is a tower layer. The layer added first is outermost and sees each frame
    // first.
    let alice = App::new()
        .with(SmartRelay::new())
        .with(Courier::new())
        .with(Router::new().route("ping", ping))
        .listen("127.0.0.1:0")
        .await?;
    let addr = alice.local_addrs()[0];
    println!("alice accepts peers at {addr}");

    let bob = App::new()
        .with(SmartRelay::new())
        .with(Courier::new())
        .start()
        .await?;
    let mut reader = bob.reader();
    let peer = bob.connect(&addr.to_string()).await?;

    // Send a request to one peer and wait for its reply.
    let pong: Pong = peer.request("ping", &Ping { time: 1 }).await?.body()?;
    println!("bob asked, and got {pong:?}");
    assert_eq!(pong, Pong { time: 1 });

    // Broadcast to all peers. A reply to a broadcast arrives as a separate message.
    let _ = bob.broadcast("ping", &Ping { time: 2 }).await?;
    let frame = reader.next_frame().await.ok_or("the mesh has ended")?;
    let pong: Pong = frame.message().ok_or("no message")?.body()?;
    println!("bob asked all, and {} said {pong:?}", frame.peer().id());
    assert_eq!(pong, Pong { time: 2 });

    // A mesh is also a stream of bytes, see the example `stream_file`.
    bob.shutdown().await;
    println!("{:?}", alice.shutdown().await);
    Ok(())
}
