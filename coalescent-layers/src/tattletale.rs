//! Relaying all that peers say, in trees and stars.
//!
//! [`Tattletale`] passes each frame that a peer sends on to all other peers. It waits for peers that have
//! no room, and so holds back the source: nothing is lost.
//!
//! # Not in circles
//!
//! It knows nothing of what it has said before. Where peers are connected in a circle, a frame comes back to
//! its author, and goes round until its [`ttl`](Frame::ttl) is used up; on wires that have no ttl, for
//! ever. Waiting for room can then form a circle too, and freeze all nodes in it until one is disconnected as
//! slow. Where a circle is possible use [`SmartRelay`](crate::SmartRelay) in its place; never both.
//!
//! # Where it belongs
//!
//! What stands outside of it decides what is relayed, what stands inside decides only what is handled here.
//!
//! ```text
//! App::new().with(Tattletale::new()).with(Courier::new())     relays all that this node hears
//! App::new().with(Courier::new()).with(Tattletale::new())     relays only what parses as a message
//! App::new().with(Tattletale::new().relay_after())            relays only what the rest of the
//!           .with(Courier::new()).with(router)                stack accepted
//! ```
//!
//! In the same way a rate limit outside limits what is relayed, and a layer outside that
//! [rewrites](Frame::set_payload) payloads rewrites what is relayed.
//!
//! # Per peer or shared
//!
//! It has no state, so there is nothing to share.
//!
//! # When peers are full
//!
//! It asks for [`Flow::Wait`]: the connection that read the frame waits until the slowest peer has room, and reads no
//! more meanwhile. A peer that drains nearly nothing is disconnected after
//! [`Config::patience`](coalescent_core::Config::patience).
//!
//! # Example
//!
//! ```
//! use coalescent_core::{App, AppExt, transport::Memory};
//! use coalescent_layers::Tattletale;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), coalescent_core::Error> {
//! let network = Memory::new();
//! let app = || App::new().transport(network.clone());
//! let hub = app().with(Tattletale::new()).listen("hub:1").await?;
//! let (alice, bob) = (app().start().await?, app().start().await?);
//! let mut heard = bob.reader();
//! bob.connect("hub:1").await?;
//! alice.connect("hub:1").await?;
//!
//! alice.broadcast_payload("beep").await;
//!
//! let frame = heard.next_frame().await.expect("bob runs");
//! assert_eq!(frame.payload(), "beep");
//! # hub.shutdown().await;
//! # Ok(())
//! # }
//! ```

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use coalescent_core::{Flow, Frame, Plugin, Relay, Reply};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::after::{self, RelayFuture};

/// Relays each frame to all other peers, before the rest of the stack sees it.
///
/// For trees and stars only; see the [module](self).
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "it relays nothing until it is added to an app, with `with`"]
pub struct Tattletale {
    direct: bool,
    after: bool,
}

impl Tattletale {
    /// Makes a relay of all frames that are for every node.
    pub fn new() -> Self {
        Self::default()
    }

    /// Passes on frames that were sent to this node alone too, as broadcasts of this node's own, as the
    /// original does. Default: false.
    pub fn direct(mut self, direct: bool) -> Self {
        self.direct = direct;
        self
    }

    /// Relays a frame only once the rest of the stack has answered it without an error, so that nobody passes on
    /// what it would not take.
    ///
    /// A frame then travels no faster than its handlers; while one is being handled, frames that come after it
    /// wait. Where a call fails, or is dropped, its frame is not relayed.
    pub fn relay_after(mut self) -> Self {
        self.after = true;
        self
    }
}

impl Plugin for Tattletale {}

impl<S> Layer<S> for Tattletale {
    type Service = TattletaleService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        TattletaleService {
            inner,
            options: *self,
        }
    }
}

/// The service that [`Tattletale`] puts around one peer's stack.
#[derive(Clone, Debug)]
pub struct TattletaleService<S> {
    inner: S,
    options: Tattletale,
}

impl<S> TattletaleService<S> {
    /// Gets the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Gets the inner service, to change it.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Takes the inner service out.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S> Service<Frame> for TattletaleService<S>
where
    S: Service<Frame, Response = Reply>,
{
    type Response = Reply;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, frame: Frame) -> Self::Future {
        let relay = Relay {
            flow: Flow::Wait,
            direct: self.options.direct,
        };
        let after = after::relay(&frame, relay, self.options.after);
        ResponseFuture {
            call: RelayFuture::new(self.inner.call(frame), after),
        }
    }
}

pin_project! {
    /// The response future of [`TattletaleService`].
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        call: RelayFuture<F>,
    }
}

impl<F, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Reply, E>>,
{
    type Output = Result<Reply, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll(cx)
    }
}
