//! A middleware that makes many frames of one: it splits each frame into its lines.
//!
//! Each line is a frame of its own for what is inside: the relay passes it on as a broadcast of
//! this node, and the reader reads it. Put the relay outside of the middleware (exchange the two
//! lines in `main`), and frames are relayed as they came, while each node splits them for itself:
//! that is the choice for meshes with circles, where a frame comes several ways.
//!
//! ```text
//! cargo run --example split
//! ```

#[path = "support/command_line.rs"]
mod command_line;

use coalescent::BoxError;
use coalescent::middleware::{Next, from_fn};
use coalescent::prelude::*;

/// Passes each line of a frame on, and replies what the first line that is answered is answered.
async fn split(frame: Frame, mut next: Next) -> Result<Reply, BoxError> {
    let payload = frame.payload_bytes();
    let mut reply = Reply::None;
    for line in payload.split(|byte| *byte == b'\n') {
        let line = frame.derive(payload.slice_ref(line));
        reply = reply.or(next.call(line).await?);
    }
    Ok(reply)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    command_line::none("Three nodes, one of which makes many frames of one");
    let hub = App::new()
        .with(from_fn(split))
        .with(Tattletale::new())
        .listen("127.0.0.1:0")
        .await?;
    let addr = hub.local_addrs()[0].to_string();
    let alice = App::new().start().await?;
    let bob = App::new().start().await?;
    bob.connect(&addr).await?;
    let mut heard = (hub.reader(), bob.reader());
    alice.connect(&addr).await?;
    let _ = alice.broadcast_payload("one\ntwo\nthree").await;
    for line in ["one", "two", "three"] {
        for reader in [&mut heard.0, &mut heard.1] {
            let frame = reader.next_frame().await.ok_or("the mesh has ended")?;
            assert_eq!(frame.payload(), line.as_bytes());
        }
        println!("{line}");
    }
    Ok(())
}
