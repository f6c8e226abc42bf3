//! A hub, and the nodes that are connected to it.
//!
//! Publishers take part in the topic as all nodes do, but do not read what others publish.

use std::convert::Infallible;
use std::sync::Arc;

use common::Failed;
use common::options::Options;
use common::report::serve;
use common::star::{Publisher, Star, Subscriber};
use iroh::EndpointAddr;
use iroh_gossip::api::GossipSender;

use crate::node::{BACKLOG, Heard, Node, Place, from_text, to_text};

/// Forwards until stdin ends.
pub(crate) async fn hub() -> Result<(), Failed> {
    let node = Node::new(&Place::Hub).await?;
    // A node forwards also what its application does not read.
    let (_taking_part, _) = node.join([]).await?;
    serve(to_text(&node.addr())).await;
    Ok(())
}

/// Nodes of iroh-gossip around a hub.
pub(crate) enum Iroh {}

/// A node that publishes.
pub(crate) struct Sending {
    sender: GossipSender,
    _node: Node,
}

/// A node that receives.
///
/// If it is no longer read, only its application stops. The node goes on reading, and drops what
/// the application does not take.
pub(crate) struct Hearing {
    heard: Heard,
    _taking_part: GossipSender,
    _node: Node,
}

impl Star for Iroh {
    const QUEUE: u64 = BACKLOG;
    const BYTES_IN_FLIGHT: u64 = 2 * 1024 * 1024;
    const CONNECTING: usize = 16;

    type Publisher = Sending;
    type Subscriber = Hearing;
    type Idle = Node;

    async fn publisher(options: &Options) -> Result<Sending, Failed> {
        let (_node, sender, _unread) = joined(options).await?;
        Ok(Sending { sender, _node })
    }

    async fn subscriber(options: &Options) -> Result<Hearing, Failed> {
        let (_node, _taking_part, heard) = joined(options).await?;
        Ok(Hearing {
            heard,
            _taking_part,
            _node,
        })
    }

    /// Makes a connection of the gossip protocol that takes part in no topic. Each node that joins
    /// a topic is announced to all others, which is more than a hub with many of them can be asked
    /// to do.
    async fn idle(options: Arc<Options>) -> Result<Node, Failed> {
        let hub = hub_of(&options)?;
        let node = Node::new(&Place::Spoke(hub.clone())).await?;
        node.connect(hub).await?;
        Ok(node)
    }

    async fn hold(_node: Node) -> Result<Infallible, Failed> {
        std::future::pending().await
    }
}

impl Publisher for Sending {
    async fn publish(&mut self, payload: Vec<u8>) -> Result<bool, Failed> {
        self.sender.broadcast(payload.into()).await?;
        Ok(true)
    }
}

impl Subscriber for Hearing {
    async fn receive(&mut self) -> Result<impl AsRef<[u8]> + Send, Failed> {
        self.heard.next().await
    }
}

fn hub_of(options: &Options) -> Result<EndpointAddr, Failed> {
    let addr = options.addr()?;
    Ok(from_text(addr).ok_or_else(|| format!("--addr is ID@127.0.0.1:PORT, not {addr:?}"))?)
}

/// Makes a node that is connected to the hub, and takes part in the topic.
async fn joined(options: &Options) -> Result<(Node, GossipSender, Heard), Failed> {
    let hub = hub_of(options)?;
    let node = Node::new(&Place::Spoke(hub.clone())).await?;
    let (sender, heard) = node.join([hub.id]).await?;
    Ok((node, sender, heard))
}
