//! The mesh as one side of a bridge: its broadcasts, or a topic of its overlay.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use coalescent_core::connection::ConnectionInfo;
use coalescent_core::wire::{Hello, Kind, NativeCodec, Packet, Status};
use coalescent_core::{Error, Mesh, NodeId, Peer, Wire, report};
use futures_core::Stream;
use futures_sink::Sink;
use futures_util::{SinkExt, StreamExt, sink};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_util::codec::Framed;

use crate::{GRACE, Tally};

/// Bytes on their way between the node and the bridge, in each direction.
const PIPE: usize = 64 * 1024;

pub(crate) struct Shore {
    pub(crate) hears: Pin<Box<dyn Stream<Item = (Option<u64>, Bytes)> + Send>>,
    /// What it cannot say it counts as lost.
    pub(crate) says: Pin<Box<dyn Sink<(u64, Bytes), Error = Infallible> + Send>>,
    /// Tells how many messages the mesh has dropped, as this bridge did not read them in time.
    pub(crate) dropped: Box<dyn Fn() -> u64 + Send + Sync>,
    /// The bridge as its node sees it, if it is a peer.
    pub(crate) peer: Option<Peer>,
}

pub(crate) async fn open(
    mesh: &Mesh,
    topic: Option<&str>,
    tally: &Arc<Tally>,
) -> Result<Shore, Error> {
    match topic {
        #[cfg(feature = "topics")]
        Some(name) => of_topic(mesh, name, Arc::clone(tally)),
        _ => of_broadcasts(mesh, Arc::clone(tally)).await,
    }
}

/// Makes the bridge a peer of its own node, on a connection within the program. So it hears what
/// every peer hears, and what it says has a nonce that it chooses, passes the node's stack, and is
/// relayed.
async fn of_broadcasts(mesh: &Mesh, tally: Arc<Tally>) -> Result<Shore, Error> {
    let config = mesh.peers().config();
    let (near, far) = tokio::io::duplex(PIPE);
    let mut framed = Framed::new(near, NativeCodec::new(config.max_frame));
    let mut hello = Hello::new(NodeId::random(), config.network.clone());
    hello.agent = concat!("coalescent-bridge/", env!("CARGO_PKG_VERSION")).to_owned();
    let hello = hello.encode().map_err(|error| plugin(&error))?;
    let introduced = async {
        framed.send(Packet::new(Kind::Hello, hello)).await?;
        framed.next().await.transpose()
    };
    let info = ConnectionInfo::inbound().wire(Wire::native());
    let (peer, introduced) = tokio::join!(mesh.adopt(far, info), introduced);
    let peer = peer?;
    introduced.map_err(|error| plugin(&error))?;
    framed.codec_mut().established();

    let (says, hears) = framed.split();
    let says = Arc::new(Mutex::new(says));
    let answers = Arc::clone(&says);
    let hears = hears.filter_map(move |heard| {
        let answers = Arc::clone(&answers);
        async move {
            let heard = heard.ok()?;
            let answer = match heard.kind {
                Kind::Broadcast { nonce } => return Some((Some(nonce), heard.payload)),
                Kind::Ping => Packet::new(Kind::Pong, heard.payload),
                Kind::Request { id } => {
                    let status = Status::NoAnswer;
                    Packet::new(Kind::Reply { id, status }, Bytes::new())
                }
                _ => return None,
            };
            // The node may take nothing more until it is heard.
            let _ = timeout(GRACE, async { answers.lock().await.send(answer).await }).await;
            None
        }
    });
    let says = sink::unfold((), move |(), (nonce, payload)| {
        let (says, tally) = (Arc::clone(&says), Arc::clone(&tally));
        async move {
            let packet = Packet::new(Kind::Broadcast { nonce }, payload);
            if let Err(error) = says.lock().await.send(packet).await {
                tally.lose(1, error);
            }
            Ok(())
        }
    });
    let counted = peer.clone();
    Ok(Shore {
        hears: Box::pin(hears),
        says: Box::pin(says),
        dropped: Box::new(move || counted.stats().dropped),
        peer: Some(peer),
    })
}

fn plugin(error: &(dyn std::error::Error + 'static)) -> Error {
    Error::plugin(report(error).to_string())
}

/// Subscribes to a topic. What this node itself publishes there is not heard.
#[cfg(feature = "topics")]
fn of_topic(mesh: &Mesh, name: &str, tally: Arc<Tally>) -> Result<Shore, Error> {
    use coalescent_layers::MeshOverlayExt;
    use coalescent_layers::overlay::topic::TopicNonce;

    let heard = mesh.topic(name)?;
    let topic = Arc::new(heard.clone());
    let counted = Arc::clone(&topic);
    let hears = futures_util::stream::unfold(heard, |mut heard| async move {
        let frame = heard.recv().await?;
        let nonce = frame.extensions().get().map(|&TopicNonce(nonce)| nonce);
        Some(((nonce, frame.into_payload()), heard))
    });
    let says = sink::unfold((), move |(), (nonce, payload)| {
        let (topic, tally) = (Arc::clone(&topic), Arc::clone(&tally));
        async move {
            if let Err(error) = topic.publish_as(nonce, payload).await {
                tally.lose(1, error);
            }
            Ok(())
        }
    });
    Ok(Shore {
        hears: Box::pin(hears),
        says: Box::pin(says),
        dropped: Box::new(move || counted.stats().unread),
        peer: None,
    })
}
