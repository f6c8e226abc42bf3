//! The first program: two nodes, of which one asks and the other answers.
//!
//! ```text
//! cargo run --example hello
//! ```

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

/// Handles messages of the type `ping`. What it returns goes back to the peer that asked.
async fn ping(Body(ping): Body<Ping>) -> impl IntoReply {
    Message::new("pong", &Pong { time: ping.time })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Every middleware is a tower layer. The first one added sees a frame first.
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
    let mut heard = bob.reader();
    let peer = bob.connect(&addr.to_string()).await?;

    // To one peer, waiting for its reply.
    let pong: Pong = peer.request("ping", &Ping { time: 1 }).await?.body()?;
    println!("bob asked, and got {pong:?}");
    assert_eq!(pong, Pong { time: 1 });

    // To all peers. Who has an answer sends it as a message of its own.
    bob.broadcast("ping", &Ping { time: 2 }).await?;
    let frame = heard.next_frame().await.ok_or("the mesh has ended")?;
    let pong: Pong = frame.message().ok_or("no message")?.body()?;
    println!("bob asked all, and {} said {pong:?}", frame.peer().id());
    assert_eq!(pong, Pong { time: 2 });

    // A mesh is a stream of frames too, and of bytes: what is written goes to every peer.
    bob.shutdown().await;
    println!("{:?}", alice.shutdown().await);
    Ok(())
}
