//! What the courier adds to meshes and peers: the original's `broadcast` and `send`.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use coalescent_core::codec::Codec;
use coalescent_core::{Error, Mesh, Message, Peer, Peers, Sent};
use serde::Serialize;

/// Sends messages to one peer.
///
/// Each verb fails with [`is_no_courier`](Error::is_no_courier) where the app has no
/// [`Courier`](super::Courier), and with [`is_encode`](Error::is_encode) where the body cannot be
/// serialized, or the message does not fit the peer's wire. The body is serialized when the verb is
/// called, not when its future is first polled.
pub trait PeerExt: sealed::Sealed {
    /// Sends a message of type `kind` to this peer alone, waiting for room. Relays leave it alone.
    ///
    /// That it is queued does not say that it arrives.
    ///
    /// # Errors
    ///
    /// As said at [`PeerExt`], and [`is_closed`](Error::is_closed) where the peer is gone.
    ///
    /// # Cancel safety
    ///
    /// When dropped before it is done, nothing was queued.
    fn send<T>(&self, kind: &str, body: &T) -> impl Future<Output = Result<(), Error>> + Send
    where
        T: Serialize + ?Sized;

    /// Sends a message that is made already, perhaps with headers: as [`send`](PeerExt::send).
    ///
    /// # Errors
    ///
    /// As for [`send`](PeerExt::send).
    ///
    /// # Cancel safety
    ///
    /// As for [`send`](PeerExt::send).
    fn send_message(&self, message: Message) -> impl Future<Output = Result<(), Error>> + Send;

    /// Sends a message of type `kind` to this peer alone, if there is room for it now.
    ///
    /// # Errors
    ///
    /// As for [`send`](PeerExt::send), and [`is_full`](Error::is_full) where there is no room.
    fn try_send<T>(&self, kind: &str, body: &T) -> Result<(), Error>
    where
        T: Serialize + ?Sized;

    /// Sends a message of type `kind` as a request, and waits for its reply, at most
    /// [`Config::request_timeout`](coalescent_core::Config::request_timeout).
    ///
    /// # Errors
    ///
    /// As said at [`PeerExt`], those of [`Peer::request_payload`], and
    /// [`is_decode`](Error::is_decode) where the reply is no message.
    ///
    /// # Cancel safety
    ///
    /// When dropped before it is done, the peer is told that nobody waits any more.
    fn request<T>(
        &self,
        kind: &str,
        body: &T,
    ) -> impl Future<Output = Result<Message, Error>> + Send
    where
        T: Serialize + ?Sized;

    /// Sends a message that is made already as a request: as [`request`](PeerExt::request).
    ///
    /// # Errors
    ///
    /// As for [`request`](PeerExt::request).
    ///
    /// # Cancel safety
    ///
    /// As for [`request`](PeerExt::request).
    fn request_message(
        &self,
        message: Message,
    ) -> impl Future<Output = Result<Message, Error>> + Send;
}

/// Sends messages to all peers of a [`Mesh`], or of [`Peers`] without an app.
///
/// Each verb fails with [`is_no_courier`](Error::is_no_courier) where the app has no
/// [`Courier`](super::Courier), and with [`is_encode`](Error::is_encode) where the body cannot be
/// serialized. The body is serialized once, however many peers get it, when the verb is called; a
/// [`Message`] once, however often it is sent.
///
/// What becomes of the message at each peer is in the [`Sent`].
pub trait MeshExt: sealed::Sealed {
    /// Queues a message of type `kind` for every peer, waiting for room in each.
    ///
    /// # Errors
    ///
    /// As said at [`MeshExt`].
    ///
    /// # Cancel safety
    ///
    /// When dropped before it is done, some peers get the message and others do not.
    fn broadcast<T>(
        &self,
        kind: &str,
        body: &T,
    ) -> impl Future<Output = Result<Sent, Error>> + Send
    where
        T: Serialize + ?Sized;

    /// Queues a message that is made already, perhaps with headers: as
    /// [`broadcast`](MeshExt::broadcast).
    ///
    /// # Errors
    ///
    /// As for [`broadcast`](MeshExt::broadcast).
    ///
    /// # Cancel safety
    ///
    /// As for [`broadcast`](MeshExt::broadcast).
    fn broadcast_message(
        &self,
        message: Message,
    ) -> impl Future<Output = Result<Sent, Error>> + Send;

    /// Queues a message of type `kind` for every peer with each of `bodies`, in order, waiting for
    /// room in each peer: as [`broadcast`](MeshExt::broadcast) does with one, and for small ones
    /// many times as fast.
    ///
    /// About [`BATCH`](coalescent_core::BATCH) bytes of messages are put together at a time, before
    /// any peer gets the first of them; the bodies are serialized as they are put together, not
    /// when the verb is called. What is said is the sum over the messages: two of them queued for
    /// three peers are six.
    ///
    /// ```
    /// # use coalescent_core::{App, AppExt, Error};
    /// # use coalescent_layers::{Courier, MeshExt};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let mesh = App::new().with(Courier::new()).start().await?;
    /// let sent = mesh.broadcast_all("temperature", [20.5, 20.7, 21.0]).await?;
    /// # assert_eq!(sent.queued, 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As said at [`MeshExt`]: for the first body that cannot be serialized. The messages before it
    /// were queued, those behind it are not made.
    ///
    /// # Cancel safety
    ///
    /// When dropped before it is done, some peers get some of the messages, each peer the first of
    /// them.
    fn broadcast_all<T>(
        &self,
        kind: &str,
        bodies: impl IntoIterator<Item = T, IntoIter: Send> + Send,
    ) -> impl Future<Output = Result<Sent, Error>> + Send
    where
        T: Serialize;

    /// Queues a message of type `kind` for every peer but `except`. Where peers relay, these get it
    /// from others.
    ///
    /// # Errors
    ///
    /// As for [`broadcast`](MeshExt::broadcast).
    ///
    /// # Cancel safety
    ///
    /// As for [`broadcast`](MeshExt::broadcast).
    fn broadcast_except<T>(
        &self,
        except: &[Peer],
        kind: &str,
        body: &T,
    ) -> impl Future<Output = Result<Sent, Error>> + Send
    where
        T: Serialize + ?Sized;

    /// Queues a message of type `kind` as a broadcast for those of the connected peers that are in
    /// `to`. Where peers relay, others get it from these; [`send`](PeerExt::send) is for one peer
    /// alone.
    ///
    /// # Errors
    ///
    /// As for [`broadcast`](MeshExt::broadcast).
    ///
    /// # Cancel safety
    ///
    /// As for [`broadcast`](MeshExt::broadcast).
    fn broadcast_to<T>(
        &self,
        to: &[Peer],
        kind: &str,
        body: &T,
    ) -> impl Future<Output = Result<Sent, Error>> + Send
    where
        T: Serialize + ?Sized;

    /// Queues a message of type `kind` for those peers that have room for it now; for the others it
    /// is dropped, and counted.
    ///
    /// # Errors
    ///
    /// As for [`broadcast`](MeshExt::broadcast).
    fn try_broadcast<T>(&self, kind: &str, body: &T) -> Result<Sent, Error>
    where
        T: Serialize + ?Sized;
}

impl PeerExt for Peer {
    fn send<T>(&self, kind: &str, body: &T) -> impl Future<Output = Result<(), Error>> + Send
    where
        T: Serialize + ?Sized,
    {
        let payload = encode_body(&self.peers(), kind, body);
        async move { self.send_payload(payload?).await }
    }

    async fn send_message(&self, message: Message) -> Result<(), Error> {
        let payload = encode(&self.peers(), &message)?;
        self.send_payload(payload).await
    }

    fn try_send<T>(&self, kind: &str, body: &T) -> Result<(), Error>
    where
        T: Serialize + ?Sized,
    {
        self.try_send_payload(encode_body(&self.peers(), kind, body)?)
    }

    fn request<T>(
        &self,
        kind: &str,
        body: &T,
    ) -> impl Future<Output = Result<Message, Error>> + Send
    where
        T: Serialize + ?Sized,
    {
        let payload = encode_body(&self.peers(), kind, body);
        async move { ask(self, payload?).await }
    }

    async fn request_message(&self, message: Message) -> Result<Message, Error> {
        let payload = encode(&self.peers(), &message)?;
        ask(self, payload).await
    }
}

impl MeshExt for Peers {
    fn broadcast<T>(&self, kind: &str, body: &T) -> impl Future<Output = Result<Sent, Error>> + Send
    where
        T: Serialize + ?Sized,
    {
        let payload = encode_body(self, kind, body);
        async move { Ok(self.broadcast_payload(payload?).await) }
    }

    async fn broadcast_message(&self, message: Message) -> Result<Sent, Error> {
        let payload = encode(self, &message)?;
        Ok(self.broadcast_payload(payload).await)
    }

    async fn broadcast_all<T>(
        &self,
        kind: &str,
        bodies: impl IntoIterator<Item = T, IntoIter: Send> + Send,
    ) -> Result<Sent, Error>
    where
        T: Serialize,
    {
        let codec = codec(self)?;
        let mut failed = None;
        let bodies = bodies.into_iter();
        let payloads = bodies.map_while(|body| match codec.encode_body(kind, &body) {
            Ok(payload) => Some(payload),
            Err(error) => {
                failed = Some(error);
                None
            }
        });
        let sent = self.broadcast_payloads(payloads).await;
        match failed {
            None => Ok(sent),
            Some(error) => Err(Error::unencodable(error)),
        }
    }

    fn broadcast_except<T>(
        &self,
        except: &[Peer],
        kind: &str,
        body: &T,
    ) -> impl Future<Output = Result<Sent, Error>> + Send
    where
        T: Serialize + ?Sized,
    {
        let payload = encode_body(self, kind, body);
        #[allow(
            clippy::mutable_key_type,
            reason = "which peer a handle is of never changes"
        )]
        let except: HashSet<&Peer> = except.iter().collect();
        async move {
            let to = |peer: &Peer| !except.contains(peer);
            Ok(self.broadcast_payload_where(payload?, to).await)
        }
    }

    fn broadcast_to<T>(
        &self,
        to: &[Peer],
        kind: &str,
        body: &T,
    ) -> impl Future<Output = Result<Sent, Error>> + Send
    where
        T: Serialize + ?Sized,
    {
        let payload = encode_body(self, kind, body);
        #[allow(
            clippy::mutable_key_type,
            reason = "which peer a handle is of never changes"
        )]
        let to: HashSet<&Peer> = to.iter().collect();
        async move {
            let to = |peer: &Peer| to.contains(peer);
            Ok(self.broadcast_payload_where(payload?, to).await)
        }
    }

    fn try_broadcast<T>(&self, kind: &str, body: &T) -> Result<Sent, Error>
    where
        T: Serialize + ?Sized,
    {
        let payload = encode_body(self, kind, body)?;
        Ok(self.try_broadcast_payload(payload))
    }
}

impl MeshExt for Mesh {
    fn broadcast<T>(&self, kind: &str, body: &T) -> impl Future<Output = Result<Sent, Error>> + Send
    where
        T: Serialize + ?Sized,
    {
        self.peers().broadcast(kind, body)
    }

    fn broadcast_message(
        &self,
        message: Message,
    ) -> impl Future<Output = Result<Sent, Error>> + Send {
        self.peers().broadcast_message(message)
    }

    fn broadcast_all<T>(
        &self,
        kind: &str,
        bodies: impl IntoIterator<Item = T, IntoIter: Send> + Send,
    ) -> impl Future<Output = Result<Sent, Error>> + Send
    where
        T: Serialize,
    {
        self.peers().broadcast_all(kind, bodies)
    }

    fn broadcast_except<T>(
        &self,
        except: &[Peer],
        kind: &str,
        body: &T,
    ) -> impl Future<Output = Result<Sent, Error>> + Send
    where
        T: Serialize + ?Sized,
    {
        self.peers().broadcast_except(except, kind, body)
    }

    fn broadcast_to<T>(
        &self,
        to: &[Peer],
        kind: &str,
        body: &T,
    ) -> impl Future<Output = Result<Sent, Error>> + Send
    where
        T: Serialize + ?Sized,
    {
        self.peers().broadcast_to(to, kind, body)
    }

    fn try_broadcast<T>(&self, kind: &str, body: &T) -> Result<Sent, Error>
    where
        T: Serialize + ?Sized,
    {
        self.peers().try_broadcast(kind, body)
    }
}

fn codec(peers: &Peers) -> Result<Arc<Codec>, Error> {
    peers.get_shared().ok_or_else(Error::no_courier)
}

fn encode_body<T>(peers: &Peers, kind: &str, body: &T) -> Result<Bytes, Error>
where
    T: Serialize + ?Sized,
{
    let payload = codec(peers)?.encode_body(kind, body);
    payload.map_err(Error::unencodable)
}

fn encode(peers: &Peers, message: &Message) -> Result<Bytes, Error> {
    let payload = codec(peers)?.encode(message);
    payload.map_err(Error::unencodable)
}

async fn ask(peer: &Peer, payload: Bytes) -> Result<Message, Error> {
    let reply = peer.request_payload(payload).await?;
    let message = codec(&peer.peers())?.decode(&reply);
    message.map_err(Error::undecodable)
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for coalescent_core::Mesh {}
    impl Sealed for coalescent_core::Peer {}
    impl Sealed for coalescent_core::Peers {}
}
