//! Relaying every frame that is for all nodes, in trees and stars.
//!
//! [`Tattletale`] passes each frame that a peer sends on to all other peers. If a peer has no room,
//! it waits and thereby slows the source down, so nothing is lost.
//!
//! # Not in meshes with cycles
//!
//! Tattletale does not remember frames. If peers are connected in a cycle, a frame returns to its
//! author and circulates until its [`ttl`](Frame::ttl) is used up; on wires without a ttl, forever.
//! Waiting for room can then form a cycle too, which blocks all its nodes until one is disconnected
//! as slow. If cycles are possible, use [`SmartRelay`](crate::SmartRelay) instead, never both.
//!
//! # Where it belongs
//!
//! Layers outside it decide what is relayed; layers inside it decide only what is handled on this
//! node.
//!
//! ```text
//! App::new().with(Tattletale::new()).with(Courier::new())     relays all frames received
//! App::new().with(Courier::new()).with(Tattletale::new())     relays only messages that parse
//! App::new().with(Tattletale::new()).with(Validate::new(..))  relays only what the check accepts
//! App::new().with(Tattletale::new().relay_after())            relays only frames accepted by the
//!           .with(Courier::new()).with(router)                rest of the stack
//! ```
//!
//! With a [`Validate`](crate::Validate), or a layer of one's own that [judges](Frame::judge), it
//! waits for the verdict, but not for what comes after it.
//!
//! In the same way, a rate limit outside it limits what is relayed, and a layer outside it that
//! [rewrites](Frame::set_payload) payloads changes what is relayed.
//!
//! If it is the only layer of an app, all broadcasts of one read are relayed together, without a
//! call for each.
//!
//! # Per peer or shared
//!
//! The layer has no state.
//!
//! # When peers are full
//!
//! It relays with [`Flow::Wait`]: the connection that read the frame waits until the slowest peer
//! has room, and stops reading meanwhile. A peer that drains almost nothing is disconnected after
//! [`Config::patience`](coalescent_core::Config::patience).
//!
//! # Example
//!
//! ```
//! use coalescent::{App, AppExt, Tattletale, transport::Memory};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), coalescent::Error> {
//! let network = Memory::new();
//! let app = || App::new().transport(network.clone());
//! let hub = app().with(Tattletale::new()).listen("hub:1").await?;
//! let (alice, bob) = (app().start().await?, app().start().await?);
//! let mut reader = bob.reader();
//! bob.connect("hub:1").await?;
//! alice.connect("hub:1").await?;
//!
//! let _ = alice.broadcast_payload("beep").await?;
//!
//! let frame = reader.next_frame().await.expect("bob runs");
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

use crate::deferred::{self, RelayFuture, When};

/// A layer that relays each frame to all other peers before the rest of the stack sees it.
///
/// For trees and stars only; see the [module documentation](self).
///
/// ```
/// use coalescent::{App, AppExt, Tattletale, transport::Memory};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let network = Memory::new();
/// # let app = || App::new().transport(network.clone());
/// // Sent to the hub alone, and passed on all the same.
/// let hub = app().with(Tattletale::new().direct(true)).listen("hub:1").await?;
/// let (alice, bob) = (app().start().await?, app().start().await?);
/// bob.connect("hub:1").await?;
/// let peer = alice.connect("hub:1").await?;
/// # hub.connected(2).await?;
/// let mut reader = bob.reader();
/// peer.send_payload("beep").await?;
/// assert_eq!(reader.next_frame().await.ok_or("it ended")?.payload(), b"beep");
/// # hub.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "it relays nothing until it is added to an app, with `with`"]
pub struct Tattletale {
    direct: bool,
    when: When,
}

impl Tattletale {
    /// Creates a relay of all frames that are addressed to every node.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether frames sent to this node only are relayed too, as broadcasts of this node. The
    /// npm original does so. Default: false.
    pub fn direct(mut self, direct: bool) -> Self {
        self.direct = direct;
        self
    }

    /// Relays a frame only after the rest of the stack has handled it without an error, so that
    /// rejected frames are not passed on.
    ///
    /// Relaying then waits for the handlers, and later frames of the peer wait too while a frame is
    /// being handled. A frame whose call fails or is dropped is not relayed.
    pub fn relay_after(mut self) -> Self {
        self.when = When::After;
        self
    }

    /// Relays a frame only once a layer further in [accepts](Frame::accept) it, and without
    /// waiting for its handlers.
    ///
    /// An app with a [`Validate`](crate::Validate) inside of its relay needs no such option. It is
    /// for layers of one's own, and for stacks without an app. What no layer accepts is not
    /// relayed, and counted as [`withheld`](coalescent_core::Stats::withheld).
    pub fn validated(mut self) -> Self {
        self.when = When::Accepted;
        self
    }
}

impl Plugin for Tattletale {
    fn register(&self, app: &mut Registrar) {
        deferred::register_relay(app);
        if !self.when.waits() {
            app.relays_all::<TattletaleService<Inbox>>(Flow::Wait);
        }
    }
}

impl<S> Layer<S> for Tattletale {
    type Service = TattletaleService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        TattletaleService {
            inner,
            direct: self.direct,
            when: self.when,
        }
    }
}

/// The service that [`Tattletale`] puts around one peer's stack.
#[derive(Clone, Debug)]
pub struct TattletaleService<S> {
    inner: S,
    direct: bool,
    when: When,
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
    fn call(&mut self, mut frame: Frame) -> Self::Future {
        let relay = Relay::new(Flow::Wait).direct(self.direct);
        let when = self.when.settled(&frame);
        let deferred = deferred::relay(&mut frame, relay, when, || ());
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
        call: RelayFuture<F, ()>,
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

    /// Returns whether `tattletale` relays a frame of this kind before its reply, and after it.
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
    async fn relays_frames_for_every_node_before_the_reply() {
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
    async fn relay_after_relays_accepted_frames_only() {
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
    async fn relay_after_relays_nothing_if_the_call_is_dropped() {
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
    async fn relays_the_payload_as_the_relay_sees_it() {
        // Rewritten outside the relay, then again inside; other peers must not see the second
        // change.
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
