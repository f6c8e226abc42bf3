//! A handle to one topic.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use coalescent_core::{Error, Frame, MeshReader, Message, MessageType, Peer, Peers, TopicName};
use serde::Serialize;
use tokio::time::Instant;

use super::forward::ToSend;
use super::names::{GIVEN, GIVEN_FOR};
use super::payload::{self, Content};
use super::state::{State, TopicStats, add};
use super::topics::{Inner, Topics};
use crate::overlay::Overlay;
use crate::overlay::ids::Key;

/// A handle to one topic: publishes payloads in it, and reads those of others.
///
/// It comes from [`MeshOverlayExt::topic`](crate::MeshOverlayExt::topic). As long as there is one,
/// this node is subscribed; when the last one is dropped, it leaves the topic, unless the app was
/// built with it ([`Overlay::topic`](crate::Overlay::topic), a router's topic). A clone is a handle
/// too.
///
/// # Reading
///
/// What neighbours send passes the stack of this node, as every frame does, and then waits to be
/// [received](Topic::recv) here instead of at the mesh's read side: at most 4 MiB for all handles
/// of the topic, which share it. A reader that is slow holds the neighbours back for a moment. What
/// finds no room all the same is dropped and counted, for this topic alone; see
/// [`ReadBy`](coalescent_core::ReadBy). Payloads that this node itself publishes do not come back.
///
/// ```
/// use coalescent::{App, AppExt, MeshOverlayExt, Overlay, transport::Memory};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), coalescent::Error> {
/// let network = Memory::new();
/// let app = || App::new().transport(network.clone()).with(Overlay::new());
/// let alice = app().listen("alice:1").await?;
/// let bob = app().seeds(["alice:1"]).listen("bob:2").await?;
///
/// let mut heard = bob.topic("prices")?;
/// let prices = alice.topic("prices")?;
/// prices.publish("42").await?;
///
/// let frame = heard.recv().await.expect("the topic goes on");
/// assert_eq!(frame.payload(), b"42");
/// # Ok(())
/// # }
/// ```
pub struct Topic {
    inner: Arc<Inner>,
    state: Arc<State>,
    peers: Peers,
    reader: MeshReader,
}

impl Topic {
    /// Subscribes to a topic of a mesh.
    pub(in crate::overlay) fn of(peers: &Peers, name: &TopicName) -> Result<Self, Error> {
        if name.is_empty() {
            return Err(Error::plugin(
                "a topic needs a name: the empty one stands for the mesh itself",
            ));
        }
        let topics: Topics = peers.get_shared().ok_or_else(|| {
            Error::plugin(match peers.has_layer(std::any::type_name::<Overlay>()) {
                true => {
                    "the overlay is in the stack, but was added with `.layer`, which does not \
                     register it: use `.with(Overlay::new())`"
                }
                false => "there are no topics: add `.with(Overlay::new())` to the app",
            })
        })?;
        let inner = Arc::clone(topics.inner());
        let state = inner.subscribe(name, false).ok_or_else(|| {
            Error::plugin(
                "a topic can be subscribed to while the mesh runs, and not before or after",
            )
        })?;
        Ok(Self {
            reader: state.read_by.reader(),
            inner,
            state,
            peers: peers.clone(),
        })
    }

    /// Returns the name of the topic.
    #[must_use]
    pub fn name(&self) -> &TopicName {
        &self.state.name
    }

    /// Returns the neighbours of this node in the topic: those whom it passes payloads to.
    #[must_use]
    pub fn neighbours(&self) -> Arc<[Peer]> {
        self.state.neighbours()
    }

    /// Waits until this node has `count` neighbours in the topic. Returns those that it has.
    ///
    /// # Errors
    ///
    /// [`is_closed`](Error::is_closed) if the mesh ends before.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: waiting changes nothing.
    pub async fn connected(&self, count: usize) -> Result<Arc<[Peer]>, Error> {
        let mut neighbours = self.state.neighbours.clone();
        loop {
            let now = neighbours.borrow_and_update().clone();
            if now.len() >= count {
                return Ok(now);
            }
            if neighbours.changed().await.is_err() {
                return Err(Error::ended());
            }
        }
    }

    /// Publishes a payload: queues it for the neighbours, who pass it on. Returns for how many it
    /// was queued: in a topic with a tree these are not all.
    ///
    /// It waits as long as there is no neighbour, and until each neighbour has room, which holds
    /// back who publishes too much. A neighbour that has none for
    /// [`Config::patience`](coalescent_core::Config::patience) is disconnected as slow.
    ///
    /// A handler should not publish while it is called, as it should not send: it waits for
    /// neighbours whose handlers may wait for this node.
    ///
    /// # Errors
    ///
    /// [`is_encode`](Error::is_encode) if the payload is larger than [`largest`](Topic::largest),
    /// or than each neighbour takes; [`is_plugin`](Error::is_plugin) if the trees of this node have
    /// got more payloads than they can remember ([`GIVEN`](super::GIVEN));
    /// [`is_closed`](Error::is_closed) if the mesh has ended.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is done, the payload was either published to nobody, or
    /// to all neighbours that had room.
    pub async fn publish(&self, payload: impl Into<Bytes>) -> Result<usize, Error> {
        self.publish_as(self.inner.next_nonce(), payload).await
    }

    /// Publishes a payload that has a nonce already, as [`publish`](Topic::publish) does: a copy of
    /// one that was published elsewhere, which came over a bridge.
    ///
    /// Nodes take payloads that are equal and have equal nonces for one. A frame of a topic has the
    /// nonce among its extensions, as a [`TopicNonce`](super::TopicNonce).
    ///
    /// # Errors
    ///
    /// As for [`publish`](Topic::publish).
    ///
    /// # Cancel safety
    ///
    /// As for [`publish`](Topic::publish).
    pub async fn publish_as(&self, nonce: u64, payload: impl Into<Bytes>) -> Result<usize, Error> {
        let payload = payload.into();
        let largest = self.largest();
        if payload.len() > largest {
            return Err(too_large(payload.len(), largest));
        }
        let content = Content::new(nonce, &payload);
        let id = content.id();
        let message = content.encode(self.state.id, &id, 0);
        self.room(message.len()).await?;
        let to_send = self.begin(&content, &id, message)?;
        let all = to_send.peers.len();
        add(&self.state.counts.published);
        let late = to_send.send(&self.state);
        let queued = all.saturating_sub(late.as_ref().map_or(0, super::forward::Late::len));
        match late {
            None => Ok(queued),
            Some(late) => Ok(queued + late.wait().await),
        }
    }

    /// Publishes a message of type `kind`, which the courier of this app encodes, as
    /// [`publish`](Topic::publish) does.
    ///
    /// # Errors
    ///
    /// As for [`publish`](Topic::publish); [`is_no_courier`](Error::is_no_courier) if the app has
    /// no [`Courier`](crate::Courier), and [`is_encode`](Error::is_encode) if the body cannot be
    /// serialized.
    ///
    /// # Cancel safety
    ///
    /// As for [`publish`](Topic::publish).
    pub fn send<T>(
        &self,
        kind: &str,
        body: &T,
    ) -> impl Future<Output = Result<usize, Error>> + Send + use<'_, T>
    where
        T: Serialize + ?Sized,
    {
        let payload = self.peers.codec().and_then(|codec| {
            let payload = codec.encode_body(kind, body);
            payload.map_err(Error::unencodable)
        });
        async move { self.publish(payload?).await }
    }

    /// Publishes a message whose type its body names; like [`send`](Topic::send).
    ///
    /// # Errors
    ///
    /// As for [`send`](Topic::send).
    ///
    /// # Cancel safety
    ///
    /// As for [`publish`](Topic::publish).
    pub fn send_typed<T>(
        &self,
        body: &T,
    ) -> impl Future<Output = Result<usize, Error>> + Send + use<'_, T>
    where
        T: Serialize + MessageType + ?Sized,
    {
        self.send(T::TYPE, body)
    }

    /// Publishes a message built beforehand, for example one with headers; like
    /// [`send`](Topic::send).
    ///
    /// # Errors
    ///
    /// As for [`send`](Topic::send).
    ///
    /// # Cancel safety
    ///
    /// As for [`publish`](Topic::publish).
    pub async fn send_message(&self, message: Message) -> Result<usize, Error> {
        let payload = self.peers.codec()?.encode(&message);
        self.publish(payload.map_err(Error::unencodable)?).await
    }

    /// Returns the largest payload that can be published, in bytes: somewhat less than
    /// [`Config::max_frame`](coalescent_core::Config::max_frame).
    #[must_use]
    pub fn largest(&self) -> usize {
        payload::largest(self.peers.config().max_frame)
    }

    /// Waits for the next payload of another node that this handle gets. Returns `None` when the
    /// mesh has ended.
    ///
    /// The frame's peer is the neighbour that has passed it on, and its
    /// [extensions](Frame::extensions) hold the [`TopicName`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no frame is lost when the future is dropped.
    pub async fn recv(&mut self) -> Option<Frame> {
        self.reader.next_frame().await
    }

    /// Returns the next payload if one is there already.
    pub fn try_recv(&mut self) -> Option<Frame> {
        self.reader.try_next_frame()
    }

    /// Returns the read side of this handle: a stream of frames, and of bytes.
    pub fn reader(&mut self) -> &mut MeshReader {
        &mut self.reader
    }

    /// Returns what this node counts of the topic, since it has subscribed.
    #[must_use]
    pub fn stats(&self) -> TopicStats {
        self.state.stats()
    }

    /// Waits until there are neighbours, and all of them have room for a message of `len` bytes.
    async fn room(&self, len: usize) -> Result<(), Error> {
        let neighbours = self.connected(1).await?;
        let takes = |peer: &Peer| peer.max_payload().unwrap_or(usize::MAX);
        let most = neighbours.iter().map(takes).max().unwrap_or(usize::MAX);
        if len > most {
            return Err(too_large(len, most));
        }
        for peer in neighbours.iter() {
            if takes(peer) >= len {
                // Who leaves meanwhile needs no room.
                let _ = peer.bulk_room(len).await;
            }
        }
        Ok(())
    }

    /// Decides to whom a payload goes, without waiting.
    fn begin(&self, content: &Content, id: &Key, message: Bytes) -> Result<ToSend, Error> {
        let state = &self.state;
        if !state.tree {
            state.said(id, Instant::now());
            let peers = state.neighbours().to_vec();
            return Ok(ToSend { message, peers });
        }
        let to_send = self.inner.shared.tree_publish(state.id, id, content);
        let to_send = to_send.ok_or_else(|| {
            Error::plugin(format!(
                "the trees of this node have got over {GIVEN} payloads within {GIVEN_FOR:?}: publish less, \
                 or larger ones"
            ))
        })?;
        state.said(id, Instant::now());
        Ok(to_send)
    }
}

fn too_large(len: usize, largest: usize) -> Error {
    Error::unencodable(format!(
        "a payload of {len} bytes is too large for the topic, which takes at most {largest}"
    ))
}

impl Clone for Topic {
    fn clone(&self) -> Self {
        let state = self.inner.subscribe(&self.state.name, false);
        let state = state.unwrap_or_else(|| Arc::clone(&self.state));
        Self {
            inner: Arc::clone(&self.inner),
            reader: state.read_by.reader(),
            state,
            peers: self.peers.clone(),
        }
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        self.inner.release(self.state.id);
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic")
            .field("name", self.name())
            .field("tree", &self.state.tree)
            .field("neighbours", &self.neighbours().len())
            .field("published", &self.state.counts.published.load(Relaxed))
            .finish_non_exhaustive()
    }
}
