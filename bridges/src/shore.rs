//! A bridge's way into its mesh: broadcasts, or a topic of an overlay.

use std::pin::Pin;
use std::task::{Context, Poll};

use coalescent_core::{BoxError, Error, Mesh};
use futures_util::{SinkExt, StreamExt};

use crate::door::Door;
use crate::engine::Carried;
#[cfg(feature = "topics")]
use crate::topic::OfTopic;

/// What of a mesh a bridge carries.
#[derive(Clone, Debug)]
pub(crate) enum What {
    Broadcasts,
    #[cfg(feature = "topics")]
    Topic(String),
}

/// The connection of a bridge to its mesh.
pub(crate) enum Shore {
    Door(Box<Door>),
    #[cfg(feature = "topics")]
    Topic(Box<OfTopic>),
}

impl Shore {
    pub(crate) async fn open(what: &What, mesh: &Mesh) -> Result<Self, Error> {
        match what {
            What::Broadcasts => Ok(Self::Door(Box::new(Door::open(mesh).await?))),
            #[cfg(feature = "topics")]
            What::Topic(name) => Ok(Self::Topic(Box::new(OfTopic::open(mesh, name)?))),
        }
    }

    /// Returns what waits until all that the mesh has said is on its way to the bridge.
    pub(crate) fn written(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        match self {
            Self::Door(door) => {
                let peer = door.peer().clone();
                Box::pin(async move { peer.flushed().await })
            }
            #[cfg(feature = "topics")]
            Self::Topic(_) => Box::pin(std::future::ready(())),
        }
    }

    /// Polls for what the mesh says next; `None` when the connection has ended.
    pub(crate) fn poll_hear(&mut self, cx: &mut Context<'_>) -> Poll<Option<Carried>> {
        match self {
            Self::Door(door) => door.poll_next_unpin(cx),
            #[cfg(feature = "topics")]
            Self::Topic(topic) => topic.poll_hear(cx),
        }
    }

    /// Waits until the mesh can take a message. Fails if the connection has ended.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self {
            Self::Door(door) => door.poll_ready_unpin(cx).map_err(Into::into),
            #[cfg(feature = "topics")]
            Self::Topic(topic) => topic.poll_ready(cx).map(Ok),
        }
    }

    /// Says a message that the mesh is [ready](Self::poll_ready) for. An error is about
    /// that message alone.
    pub(crate) fn say(&mut self, message: Carried) -> Result<(), BoxError> {
        match self {
            Self::Door(door) => door.start_send_unpin(message).map_err(Into::into),
            #[cfg(feature = "topics")]
            Self::Topic(topic) => topic.say(message),
        }
    }

    /// Writes what was said.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) {
        match self {
            // If it fails, reading says so.
            Self::Door(door) => drop(door.poll_flush_unpin(cx)),
            #[cfg(feature = "topics")]
            Self::Topic(topic) => drop(topic.poll_ready(cx)),
        }
    }
}
