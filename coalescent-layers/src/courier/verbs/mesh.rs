//! Sending messages to all peers.

use std::collections::HashSet;

use bytes::Bytes;
use coalescent_core::{Error, Mesh, Message, MessageType, Peer, Peers, Sent};
use serde::Serialize;

use super::{encode, encode_body};
use crate::sealed::AsPeers;

/// Sends messages to all peers of a [`Mesh`], or of [`Peers`] without an app.
///
/// Every method fails with [`is_no_courier`](Error::is_no_courier) if the app has no
/// [`Courier`](crate::Courier), and with [`is_encode`](Error::is_encode) if the body cannot be
/// serialized, or the message is larger than
/// [`Config::max_frame`](coalescent_core::Config::max_frame) or fits the wire of no peer. The body
/// is serialized once, however many peers receive it. A [`Message`] is serialized once, however
/// often it is sent.
///
/// The returned [`Sent`] counts the peers for which the message was queued or dropped. Of a mesh
/// with several wires, the peers whose wire cannot carry the message count as dropped.
///
/// ```
/// use coalescent::{App, AppExt, Courier, MeshExt, transport::Memory};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let network = Memory::new();
/// # let app = || App::new().transport(network.clone()).with(Courier::new());
/// # let (alice, bob) = (app().listen("alice:1").await?, app().start().await?);
/// # let mut reader = alice.reader();
/// bob.connect("alice:1").await?;
/// let sent = bob.broadcast("beep", "boop").await?;
/// assert_eq!((sent.queued, sent.dropped), (1, 0));
/// # let frame = reader.next_frame().await.ok_or("the mesh has ended")?;
/// # assert_eq!(frame.message().ok_or("no message")?.body::<String>()?, "boop");
///
/// let mesh = App::new().start().await?; // without a courier
/// assert!(mesh.broadcast("beep", "boop").await.unwrap_err().is_no_courier());
/// # Ok(())
/// # }
/// ```
pub trait MeshExt: AsPeers {
    /// Queues a message of type `kind` for every peer, waiting for room in each outbox.
    ///
    /// # Errors
    ///
    /// As listed for [`MeshExt`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, some peers receive the message and others do
    /// not.
    fn broadcast<T>(&self, kind: &str, body: &T) -> impl Future<Output = Result<Sent, Error>> + Send
    where
        T: Serialize + ?Sized,
    {
        let peers = self.as_peers();
        let payload = encode_body(peers, kind, body);
        async move { peers.broadcast_payload(payload?).await }
    }

    /// Queues a message whose type its body names, for every peer; like
    /// [`broadcast`](MeshExt::broadcast).
    ///
    /// ```
    /// # use coalescent::{App, AppExt, Courier, Error, MeshExt, message_type};
    /// # use serde::Serialize;
    /// #[derive(Serialize)]
    /// struct Set {
    ///     key: String,
    ///     value: u64,
    /// }
    ///
    /// message_type! { Set => "set" }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let mesh = App::new().with(Courier::new()).start().await?;
    /// let set = Set { key: "answer".to_owned(), value: 42 };
    /// let sent = mesh.broadcast_typed(&set).await?;
    /// # assert_eq!(sent.queued, 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`broadcast`](MeshExt::broadcast).
    ///
    /// # Cancel safety
    ///
    /// As for [`broadcast`](MeshExt::broadcast).
    fn broadcast_typed<T>(&self, body: &T) -> impl Future<Output = Result<Sent, Error>> + Send
    where
        T: Serialize + MessageType + ?Sized,
    {
        self.broadcast(T::TYPE, body)
    }

    /// Queues a message built beforehand, for example one with headers; like
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
    ) -> impl Future<Output = Result<Sent, Error>> + Send {
        let peers = self.as_peers();
        async move {
            let payload = encode(peers, &message)?;
            peers.broadcast_payload(payload).await
        }
    }

    /// Queues a message of type `kind` for each of `bodies`, in order, for every peer, waiting for
    /// room in each outbox. For small bodies this is many times faster than a
    /// [`broadcast`](MeshExt::broadcast) for each.
    ///
    /// Messages are collected into batches of about [`BATCH`](coalescent_core::BATCH) bytes, and a
    /// batch is queued as a whole. Bodies are serialized as their batch is collected, not when this
    /// method is called. The counts are summed over all messages: two messages queued for three
    /// peers count as six.
    ///
    /// ```
    /// # use coalescent::{App, AppExt, Courier, Error, MeshExt};
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
    /// As listed for [`MeshExt`], for the first body that cannot be sent. The messages before
    /// it were queued; the bodies after it are not consumed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, each peer receives some prefix of the
    /// messages, possibly none.
    fn broadcast_all<T>(
        &self,
        kind: &str,
        bodies: impl IntoIterator<Item = T, IntoIter: Send> + Send,
    ) -> impl Future<Output = Result<Sent, Error>> + Send
    where
        T: Serialize,
    {
        let peers = self.as_peers();
        async move {
            let codec = peers.codec()?;
            let mut failed = None;
            let bodies = bodies.into_iter();
            let payloads = bodies.map_while(|body| match codec.encode_body(kind, &body) {
                Ok(payload) => Some(payload),
                Err(error) => {
                    failed = Some(error);
                    None
                }
            });
            let sent = peers.broadcast_payloads(payloads).await?;
            match failed {
                None => Ok(sent),
                Some(error) => Err(Error::unencodable(error)),
            }
        }
    }

    /// Queues a message of type `kind` for every peer except those in `except`. If peers relay, the
    /// excluded ones still receive it from others.
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
        T: Serialize + ?Sized,
    {
        let payload = encode_body(self.as_peers(), kind, body);
        broadcast_by_list(self.as_peers(), payload, except, false)
    }

    /// Queues a message of type `kind`, as a broadcast, for the connected peers in `to`. If peers
    /// relay, others receive it from these; use [`send`](super::PeerExt::send) for a message to one
    /// peer only.
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
        T: Serialize + ?Sized,
    {
        let payload = encode_body(self.as_peers(), kind, body);
        broadcast_by_list(self.as_peers(), payload, to, true)
    }

    /// Queues a message of type `kind` for every peer whose outbox has room, without waiting. For
    /// the other peers it is dropped and counted.
    ///
    /// # Errors
    ///
    /// As for [`broadcast`](MeshExt::broadcast).
    fn try_broadcast<T>(&self, kind: &str, body: &T) -> Result<Sent, Error>
    where
        T: Serialize + ?Sized,
    {
        let peers = self.as_peers();
        let payload = encode_body(peers, kind, body)?;
        peers.try_broadcast_payload(payload)
    }

    /// Queues a message whose type its body names, without waiting; like
    /// [`try_broadcast`](MeshExt::try_broadcast).
    ///
    /// # Errors
    ///
    /// As for [`broadcast`](MeshExt::broadcast).
    fn try_broadcast_typed<T>(&self, body: &T) -> Result<Sent, Error>
    where
        T: Serialize + MessageType + ?Sized,
    {
        self.try_broadcast(T::TYPE, body)
    }
}

impl MeshExt for Peers {}

impl MeshExt for Mesh {}

/// Queues a payload for the connected peers in `list`, or, unless `listed`, for all others.
fn broadcast_by_list(
    peers: &Peers,
    payload: Result<Bytes, Error>,
    list: &[Peer],
    listed: bool,
) -> impl Future<Output = Result<Sent, Error>> + Send {
    #[allow(
        clippy::mutable_key_type,
        reason = "the peer that a handle refers to never changes"
    )]
    let list: HashSet<&Peer> = list.iter().collect();
    async move {
        let to = |peer: &Peer| list.contains(peer) == listed;
        peers.broadcast_payload_where(payload?, to).await
    }
}
