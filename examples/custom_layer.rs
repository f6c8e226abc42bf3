//! A custom middleware next to those of tower. It replaces "beep" with "boop" and counts the
//! replacements, while tower's layers limit the rate.
//!
//! ```text
//! cargo run --example custom_layer
//! ```

#[path = "support/command_line.rs"]
mod command_line;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use coalescent::prelude::*;
use tower::limit::RateLimitLayer;
use tower::load_shed::LoadShedLayer;
use tower::timeout::TimeoutLayer;
use tower::{Layer, Service};

/// The layer. All peers share it, and therefore also its counter.
#[derive(Clone, Default)]
struct Boop {
    beeps: Arc<AtomicU64>,
}

impl<S> Layer<S> for Boop {
    type Service = BoopService<S>;

    /// Creates the service of a peer; called once per connection.
    fn layer(&self, inner: S) -> BoopService<S> {
        BoopService {
            inner,
            beeps: Arc::clone(&self.beeps),
        }
    }
}

/// The service, one for each peer.
struct BoopService<S> {
    inner: S,
    beeps: Arc<AtomicU64>,
}

impl<S: Service<Frame, Response = Reply>> Service<Frame> for BoopService<S> {
    type Response = Reply;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut frame: Frame) -> S::Future {
        let text = String::from_utf8_lossy(frame.payload());
        let beeps = text.matches("beep").count() as u64;
        if beeps > 0 {
            let boops = text.replace("beep", "boop");
            frame.set_payload(boops);
            self.beeps.fetch_add(beeps, Relaxed);
        }
        self.inner.call(frame)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    command_line::none(
        "A middleware that replaces \"beep\" with \"boop\", within limits of tower's layers",
    );
    let boop = Boop::default();
    let alice = App::new()
        // Five frames per minute and peer. Without `LoadShedLayer`, further frames would wait
        // instead of failing.
        .layer(LoadShedLayer::new())
        .layer(RateLimitLayer::new(5, Duration::from_secs(60)))
        .layer(TimeoutLayer::new(Duration::from_secs(5)))
        .layer(boop.clone())
        .listen("127.0.0.1:0")
        .await?;
    let mut reader = alice.reader();
    let mut events = alice.events();

    let bob = App::new().start().await?;
    bob.connect(&alice.local_addrs()[0].to_string()).await?;
    for number in 1..=6 {
        let sent = bob.broadcast_payload(format!("beep {number}")).await?;
        assert_eq!(sent.queued, 1);
    }
    for number in 1..=5 {
        let frame = reader.next_frame().await.ok_or("the mesh has ended")?;
        println!("{}", String::from_utf8_lossy(frame.payload()));
        assert_eq!(frame.payload(), format!("boop {number}").as_bytes());
    }
    // The sixth frame becomes an error event, and the peer stays connected.
    while let Some(event) = events.next().await {
        if let Event::Error { error, .. } = event {
            println!("{}", error.report());
            break;
        }
    }
    assert_eq!(alice.peers().len(), 1);
    println!("{} beeps", boop.beeps.load(Relaxed));
    assert_eq!(boop.beeps.load(Relaxed), 5);
    Ok(())
}
