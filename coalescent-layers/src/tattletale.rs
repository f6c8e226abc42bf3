//! Relaying all that peers say, in trees and stars.
//!
//! [`Tattletale`] passes each frame that a peer sends on to all other peers. It waits for peers
//! that have no room, and so holds back the source: nothing is lost.
//!
//! # Not in circles
//!
//! It knows nothing of what it has said before. Where peers are connected in a circle, a frame
//! comes back to its author, and goes round until its [`ttl`](Frame::ttl) is used up; on wires that
//! have no ttl, for ever. Waiting for room can then form a circle too, and freeze all nodes in it
//! until one is disconnected as slow. Where a circle is possible use
//! [`SmartRelay`](crate::SmartRelay) in its place; never both.
//!
//! # Where it belongs
//!
//! What stands outside of it decides what is relayed, what stands inside decides only what is
//! handled here.
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
//! Where it is all the layers that an app has, the broadcasts of one read are relayed together,
//! without a call for each.
//!
//! # Per peer or shared
//!
//! It has no state, so there is nothing to share.
//!
//! # When peers are full
//!
//! It asks for [`Flow::Wait`]: the connection that read the frame waits until the slowest peer has
//! room, and reads no more meanwhile. A peer that drains nearly nothing is disconnected after
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
//! assert_eq!(frame.payload(), b"beep");
//! # hub.shutdown().await;
//! # Ok(())
//! # }
//! ```

use std::pin::Pin;
use std::task::{Context, Poll};

use coalescent_core::{Flow, Frame, Inbox, Plugin, Registrar, Relay, Reply};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::deferred::{self, RelayFuture};

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

    /// Passes on frames that were sent to this node alone too, as broadcasts of this node's own, as
    /// the original does. Default: false.
    pub fn direct(mut self, direct: bool) -> Self {
        self.direct = direct;
        self
    }

    /// Relays a frame only once the rest of the stack has answered it without an error, so that
    /// nobody passes on what it would not take.
    ///
    /// A frame then travels no faster than its handlers; while one is being handled, frames that
    /// come after it wait. Where a call fails, or is dropped, its frame is not relayed.
    pub fn relay_after(mut self) -> Self {
        self.after = true;
        self
    }
}

impl Plugin for Tattletale {
    fn register(&self, app: &mut Registrar) {
        app.relays();
        if !self.after {
            app.relays_all::<TattletaleService<Inbox>>(Flow::Wait);
        }
    }
}

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
    crate::macros::inner_accessors!(S);
}

impl<S> Service<Frame> for TattletaleService<S>
where
    S: Service<Frame, Response = Reply>,
{
    type Response = Reply;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, frame: Frame) -> Self::Future {
        let relay = Relay {
            flow: Flow::Wait,
            direct: self.options.direct,
        };
        let deferred = deferred::relay(&frame, relay, self.options.after);
        ResponseFuture {
            call: RelayFuture::new(self.inner.call(frame), deferred),
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

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use coalescent_core::test_util;
    use coalescent_core::wire::Kind;
    use tower_test::mock;

    use super::*;

    const BROADCAST: Kind = Kind::Broadcast { nonce: 1 };

    /// Whether `tattletale` relays a frame of this kind before it is answered, and after.
    async fn relays(tattletale: Tattletale, kind: Kind, accept: bool) -> (bool, bool) {
        let layer = tower_layer::layer_fn(|inner| tattletale.layer(inner));
        let (mut stack, mut handle) = mock::spawn_layer::<Frame, Reply, _>(layer);
        assert!(stack.poll_ready().is_ready());
        let frame = test_util::frame(kind, "beep");
        let mut call = tokio_test::task::spawn(stack.call(frame.clone()));
        assert!(call.poll().is_pending());
        let before = test_util::relayed(&frame).is_some();
        let (seen, answer) = handle
            .next_request()
            .await
            .expect("the inner service is called");
        assert_eq!(seen.payload(), b"beep");
        if accept {
            answer.send_response(Reply::Payload("boop".into()));
            assert!(matches!(call.await, Ok(Reply::Payload(payload)) if payload == "boop"));
        } else {
            answer.send_error("refused");
            assert_eq!(call.await.unwrap_err().to_string(), "refused");
        }
        let after = test_util::relayed(&frame);
        assert!(
            after
                .as_ref()
                .is_none_or(|relayed| relayed.flow == Flow::Wait)
        );
        (before, after.is_some())
    }

    #[tokio::test]
    async fn relays_what_is_for_every_node_before_it_is_answered() {
        for kind in [BROADCAST, Kind::Plain] {
            assert_eq!(relays(Tattletale::new(), kind, true).await, (true, true));
            assert_eq!(relays(Tattletale::new(), kind, false).await, (true, true));
        }
        let request = Kind::Request { id: 1 };
        for kind in [Kind::Data, request] {
            assert_eq!(relays(Tattletale::new(), kind, true).await, (false, false));
        }
        let direct = Tattletale::new().direct(true);
        assert_eq!(relays(direct, Kind::Data, true).await, (true, true));
        assert_eq!(relays(direct, request, true).await, (false, false));
    }

    #[tokio::test]
    async fn relays_after_the_rest_has_accepted_and_only_then() {
        let after = Tattletale::new().relay_after();
        assert_eq!(relays(after, BROADCAST, true).await, (false, true));
        assert_eq!(relays(after, BROADCAST, false).await, (false, false));
        assert_eq!(relays(after, Kind::Data, true).await, (false, false));
        assert_eq!(
            relays(after.direct(true), Kind::Data, true).await,
            (false, true)
        );
    }

    #[tokio::test]
    async fn a_call_that_is_dropped_relays_nothing_after() {
        let layer = tower_layer::layer_fn(|inner| Tattletale::new().relay_after().layer(inner));
        let (mut stack, mut handle) = mock::spawn_layer::<Frame, Reply, _>(layer);
        assert!(stack.poll_ready().is_ready());
        let frame = test_util::frame(BROADCAST, "beep");
        let call = stack.call(frame.clone());
        let (_, answer) = handle.next_request().await.unwrap();
        answer.send_response(Reply::None);
        drop(call);
        assert_eq!(test_util::relayed(&frame), None);
    }

    #[tokio::test]
    async fn relays_what_stands_in_the_frame_here() {
        // Rewritten outside, and rewritten once more inside, which the others are not to see.
        for tattletale in [Tattletale::new(), Tattletale::new().relay_after()] {
            let inner = tower::service_fn(async |mut frame: Frame| {
                frame.set_payload("inside");
                Ok::<_, coalescent_core::Error>(Reply::None)
            });
            let mut frame = test_util::frame(BROADCAST, "as it came");
            frame.set_payload("outside");
            let seen = frame.clone();
            tattletale.layer(inner).call(frame).await.unwrap();
            assert_eq!(test_util::relayed(&seen).unwrap().payload, "outside");
        }
    }

    #[tokio::test]
    async fn is_as_ready_as_the_inner_service() {
        let layer = tower_layer::layer_fn(|inner| Tattletale::new().layer(inner));
        let (mut stack, mut handle) = mock::spawn_layer::<Frame, Reply, _>(layer);
        handle.allow(0);
        assert!(stack.poll_ready().is_pending());
        handle.allow(1);
        assert!(stack.is_woken());
        assert!(stack.poll_ready().is_ready());
        handle.send_error("broken");
        let Poll::Ready(Err(error)) = stack.poll_ready() else {
            panic!("the error of the inner service is passed on");
        };
        assert_eq!(error.to_string(), "broken");
    }
}
