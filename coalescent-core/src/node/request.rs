//! A peer as a tower service: takes a message, and returns the message that the peer answers.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tower_service::Service;

use crate::error::Error;
use crate::message::Message;
use crate::message::codec::Codec;
use crate::node::Peers;
use crate::node::peer::Peer;

/// Sends requests to the peer: each call is a request, and its response the reply.
///
/// So tower's middleware works on the requests to peers: a timeout shorter than
/// [`Config::request_timeout`](crate::Config::request_timeout), retries, a limit on the requests in
/// flight.
///
/// Messages are encoded and decoded by the [`Codec`] that is shared as an `Arc<Codec>`
/// ([`Peers::set_shared`](crate::Peers::set_shared)); the courier shares its own.
///
/// ```
/// use coalescent::{Error, Message, Peer};
/// use tower::{Service, ServiceBuilder, ServiceExt};
/// use std::time::Duration;
///
/// async fn ask(peer: &Peer) -> Result<Message, tower::BoxError> {
///     let mut asked = ServiceBuilder::new()
///         .concurrency_limit(8)
///         .timeout(Duration::from_secs(2))
///         .service(peer.clone());
///     asked.ready().await?.call(Message::new("time", &())).await
/// }
/// ```
///
/// # Readiness
///
/// A peer that is connected is ready. One that is gone fails with [`is_closed`](Error::is_closed),
/// and one whose wire has no requests (`lines`, `raw`) with [`is_refused`](Error::is_refused):
/// neither will ever be ready again, so a balancer drops it. Readiness reserves nothing. A call
/// waits for its place in the [window](crate::REQUEST_WINDOW) of unanswered requests, and for room
/// in the peer's outbox.
///
/// # Errors
///
/// A call fails with [`is_no_courier`](Error::is_no_courier) if no codec is shared,
/// [`is_encode`](Error::is_encode) if the message cannot be encoded,
/// [`is_decode`](Error::is_decode) if the reply is no message, and as [`Peer::request_payload`]
/// does.
///
/// # Cancel safety
///
/// If the future is dropped before it is done, the peer is told that nobody waits any more.
impl Service<Message> for Peer {
    type Response = Message;
    type Error = Error;
    type Future = RequestFuture;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(self.check_ready())
    }

    fn call(&mut self, message: Message) -> RequestFuture {
        let peer = self.clone();
        // Encoded now, so that the future need not own the message.
        let request = peer.peers().codec().and_then(|codec| {
            let payload = codec.encode(&message).map_err(Error::unencodable)?;
            Ok((codec, payload))
        });
        RequestFuture(Box::pin(async move {
            let (codec, payload) = request?;
            peer.request_encoded(&codec, payload).await
        }))
    }
}

/// The module of the courier, as it stands in names of types. This crate does not depend on that of
/// the courier.
const COURIER: &str = "coalescent_layers::courier::";

impl Peers {
    /// Returns the codec that the courier shares, or an error if there is no courier.
    #[doc(hidden)]
    pub fn codec(&self) -> Result<Arc<Codec>, Error> {
        self.get_shared()
            .ok_or_else(|| match self.has_layer(COURIER) {
                true => Error::unregistered_courier(),
                false => Error::no_courier(),
            })
    }
}

impl Peer {
    /// Sends `payload` as a request, waits for the reply, and decodes it with `codec`.
    #[doc(hidden)]
    pub async fn request_encoded(&self, codec: &Codec, payload: Bytes) -> Result<Message, Error> {
        let reply = self.request_payload(payload).await?;
        codec.decode(&reply).map_err(Error::undecodable)
    }
}

/// The response future of a [`Peer`] that is called with a [`Message`].
#[must_use = "the request is sent once its future is polled"]
pub struct RequestFuture(Pin<Box<dyn Future<Output = Result<Message, Error>> + Send>>);

impl Future for RequestFuture {
    type Output = Result<Message, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for RequestFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestFuture").finish_non_exhaustive()
    }
}
