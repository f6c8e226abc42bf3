//! Recording the frames that a node or a peer receives.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use tokio::time::timeout;
use tower_service::Service;

use super::wait::{DEADLINE, settle};
use crate::app::App;
use crate::config::Config;
use crate::connection::ConnectionInfo;
use crate::error::{Error, report};
use crate::frame::Frame;
use crate::mesh::{Mesh, MeshReader};
use crate::message::Message;
use crate::message::codec::Codec;
use crate::node::peer::Peer;

/// The buffer size of each direction of a recording peer's connection, in bytes.
const PIPE: usize = 64 * 1024;

/// A recorder of frames and messages: of those that reach the read side of a node
/// ([`of`](Recorder::of)), or of those that a peer of a node receives ([`join`](Recorder::join)).
///
/// ```
/// use coalescent::test_util::Recorder;
/// use coalescent::{App, Message};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), coalescent::Error> {
/// // The node under test.
/// let mesh = App::new().start().await?;
/// let mut inside = Recorder::of(&mesh);
/// let mut outside = Recorder::join(&mesh).await;
///
/// outside.send(&Message::new("beep", &1)).await;
/// assert_eq!(inside.expect_message("beep").await.body::<u32>().ok(), Some(1));
///
/// let _ = mesh.broadcast_payload("not a message").await?;
/// assert_eq!(outside.expect_frame().await.payload(), b"not a message");
/// outside.expect_nothing().await;
/// # Ok(())
/// # }
/// ```
pub struct Recorder {
    mesh: Mesh,
    reader: MeshReader,
    codec: Arc<Codec>,
    frames: Vec<Frame>,
    /// The node under test, as a peer of this recorder.
    peer: Option<Peer>,
}

impl Recorder {
    /// Records the frames that reach the read side of `mesh` after its layers, from now on.
    ///
    /// Frames are distributed among all [`reader`](Mesh::reader)s of a node, so use one recorder
    /// per node.
    #[must_use]
    pub fn of(mesh: &Mesh) -> Self {
        Self {
            reader: mesh.reader(),
            codec: codec(mesh),
            mesh: mesh.clone(),
            frames: Vec::new(),
            peer: None,
        }
    }

    /// Connects a new node to `mesh`, without layers and on the same wire, and records what it
    /// receives.
    ///
    /// # Panics
    ///
    /// Panics if the two cannot be connected.
    pub async fn join(mesh: &Mesh) -> Self {
        let theirs = mesh.peers().config();
        let config = Config {
            wire: theirs.wire.clone(),
            network: theirs.network.clone(),
            max_frame: theirs.max_frame,
            agent: "recorder".to_owned(),
            ..Config::default()
        };
        let own = match App::from_config(config).start().await {
            Ok(own) => own,
            Err(error) => panic!("the recorder does not start: {}", report(&error)),
        };
        let codec = codec(mesh);
        own.set(Arc::clone(&codec));
        let reader = own.reader();
        let (left, right) = tokio::io::duplex(PIPE);
        let joined = tokio::try_join!(
            own.adopt(left, ConnectionInfo::outbound()),
            mesh.adopt(right, ConnectionInfo::inbound()),
        );
        let peer = match joined {
            Ok((peer, _)) => peer,
            Err(error) => panic!("the recorder can't connect: {}", report(&error)),
        };
        Self {
            mesh: own,
            reader,
            codec,
            frames: Vec::new(),
            peer: Some(peer),
        }
    }

    /// Returns the recorded node; after [`join`](Recorder::join), the recorder's own.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// Returns the node under test, as a peer of the recorder.
    ///
    /// # Panics
    ///
    /// Panics if the recorder did not [`join`](Recorder::join) a node.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        match &self.peer {
            Some(peer) => peer,
            None => panic!("this recorder is no peer: make it with `Recorder::join`"),
        }
    }

    /// Returns the frames recorded so far, in order.
    #[must_use]
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// Waits for the next frame, at most [`DEADLINE`].
    ///
    /// # Panics
    ///
    /// Panics if no frame arrives.
    pub async fn expect_frame(&mut self) -> Frame {
        match timeout(DEADLINE, self.reader.next_frame()).await {
            Ok(Some(frame)) => {
                self.frames.push(frame.clone());
                frame
            }
            Ok(None) => panic!("the mesh has ended; before, {self}"),
            Err(_) => panic!("no frame within {DEADLINE:?}; before, {self}"),
        }
    }

    /// Waits for the next frame, which must be a message of type `kind`.
    ///
    /// # Panics
    ///
    /// Panics if another frame arrives, or none.
    pub async fn expect_message(&mut self, kind: &str) -> Message {
        let frame = self.expect_frame().await;
        match self.message(&frame) {
            Some(message) if message.kind() == kind => message,
            _ => panic!("expected a {kind:?}; {self}"),
        }
    }

    /// Waits for the next message of type `kind`. Earlier frames are recorded too, but skipped.
    ///
    /// # Panics
    ///
    /// Panics if no such message arrives.
    pub async fn wait_for_message(&mut self, kind: &str) -> Message {
        loop {
            let frame = self.expect_frame().await;
            if let Some(message) = self.message(&frame).filter(|m| m.kind() == kind) {
                return message;
            }
        }
    }

    /// Checks that no further frame arrives. Exact on paused time; see
    /// [`Nodes::settled`](super::Nodes::settled).
    ///
    /// # Panics
    ///
    /// Panics if a frame arrives.
    pub async fn expect_nothing(&mut self) {
        settle(std::iter::once(self.mesh.peers())).await;
        if let Some(frame) = self.reader.try_next_frame() {
            self.frames.push(frame);
            panic!("expected nothing; {self}");
        }
    }

    /// Sends a message to the node under test alone.
    ///
    /// # Panics
    ///
    /// Panics if sending fails, or if the recorder did not [`join`](Recorder::join) a node.
    pub async fn send(&self, message: &Message) {
        match self.codec.encode(message) {
            Ok(payload) => self.send_payload(payload).await,
            Err(error) => panic!("the message can't be encoded: {}", report(&error)),
        }
    }

    /// Sends a payload to the node under test alone.
    ///
    /// # Panics
    ///
    /// Panics if sending fails, or if the recorder did not [`join`](Recorder::join) a node.
    pub async fn send_payload(&self, payload: impl Into<bytes::Bytes>) {
        if let Err(error) = self.peer().send_payload(payload).await {
            panic!("the recorder can't send: {}", report(&error));
        }
    }

    /// Broadcasts a message from the recorded node.
    ///
    /// # Panics
    ///
    /// Panics if the message cannot be encoded.
    pub async fn broadcast(&self, message: &Message) {
        match self.codec.encode(message) {
            Ok(payload) => {
                if let Err(error) = self.mesh.broadcast_payload(payload).await {
                    panic!("the recorder can't broadcast: {}", report(&error));
                }
            }
            Err(error) => panic!("the message can't be encoded: {}", report(&error)),
        }
    }

    /// Sends a request of type `kind` to the node under test, and waits for its reply.
    ///
    /// # Errors
    ///
    /// Returns the errors of a request to a [`Peer`] with a [`Message`].
    ///
    /// # Panics
    ///
    /// Panics if the recorder did not [`join`](Recorder::join) a node.
    pub async fn request<T>(&self, kind: &str, body: &T) -> Result<Message, Error>
    where
        T: Serialize + ?Sized,
    {
        let mut peer = self.peer().clone();
        let message = Message::new(kind, body);
        std::future::poll_fn(|cx| peer.poll_ready(cx)).await?;
        peer.call(message).await
    }

    fn message(&self, frame: &Frame) -> Option<Message> {
        let parsed = || self.codec.decode(&frame.payload_bytes()).ok();
        frame.message().cloned().or_else(parsed)
    }
}

/// Returns the codec of the node under test, or the default one.
fn codec(mesh: &Mesh) -> Arc<Codec> {
    mesh.get().unwrap_or_else(|| Arc::new(Codec::msgpack()))
}

impl fmt::Display for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this was recorded:")?;
        for frame in &self.frames {
            match self.message(frame) {
                Some(message) => write!(f, "\n  {message:?}")?,
                None => write!(f, "\n  {frame:?}")?,
            }
        }
        if self.frames.is_empty() {
            f.write_str(" nothing")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("frames", &self.frames)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}
