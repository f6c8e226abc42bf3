//! A hub, and the nodes that are connected to it.
//!
//! Publishers do not subscribe: gossipsub lets a node publish on a topic that it does not follow.

use std::convert::Infallible;
use std::sync::Arc;

use common::options::Options;
use common::report::{print, stdin_ends};
use common::star::{Publisher, Star, Subscriber};
use common::{Failed, PATIENCE};
use serde_json::json;
use tokio::time::timeout;

use crate::node::{Node, QUEUE, Shape};

/// Forwards until stdin ends.
pub(crate) async fn hub(options: &Options) -> Result<(), Failed> {
    let mut node = Node::new(Shape::Star, options.tls)?;
    node.subscribe()?;
    let port = node.listen().await?;
    print(&json!({ "listening": format!("127.0.0.1:{port}") }));
    let ended = stdin_ends();
    tokio::pin!(ended);
    let mut peers = 0;
    loop {
        tokio::select! {
            () = &mut ended => break,
            _ = node.next() => peers = peers.max(node.connected()),
        }
    }
    print(&json!({ "peers": peers }));
    Ok(())
}

/// Nodes of gossipsub around a hub.
pub(crate) enum Gossipsub {}

impl Star for Gossipsub {
    const QUEUE: u64 = QUEUE as u64;
    const BYTES_IN_FLIGHT: u64 = 8 * 1024 * 1024;
    const BURST: u64 = 64;
    const CONNECTING: usize = 32;

    type Publisher = Node;
    type Subscriber = Node;
    type Idle = Node;

    async fn publisher(options: &Options) -> Result<Node, Failed> {
        let addr = options.addr()?;
        let port = addr
            .strip_prefix("127.0.0.1:")
            .and_then(|port| port.parse().ok());
        let port = port.ok_or_else(|| format!("--addr is 127.0.0.1:PORT, not {addr:?}"))?;
        let mut node = Node::new(Shape::Star, options.tls)?;
        node.connect(port).await?;
        Ok(node)
    }

    async fn subscriber(options: &Options) -> Result<Node, Failed> {
        let mut node = Self::publisher(options).await?;
        node.subscribe()?;
        Ok(node)
    }

    async fn idle(options: Arc<Options>) -> Result<Node, Failed> {
        let mut node = Self::subscriber(&options).await?;
        let known = async {
            while node.meshed() == 0 {
                node.next().await;
            }
        };
        timeout(PATIENCE, known)
            .await
            .map_err(|_| "the hub does not take all subscribers")?;
        Ok(node)
    }

    async fn hold(mut node: Node) -> Result<Infallible, Failed> {
        loop {
            node.heard().await?;
        }
    }
}

impl Publisher for Node {
    async fn publish(&mut self, payload: Vec<u8>) -> Result<bool, Failed> {
        Node::publish(self, payload)
    }

    async fn work_until<T: Send>(&mut self, done: impl Future<Output = T> + Send) -> T {
        Node::work_until(self, done).await
    }

    fn work_off(&mut self) {
        Node::work_off(self);
    }
}

impl Subscriber for Node {
    async fn receive(&mut self) -> Result<impl AsRef<[u8]> + Send, Failed> {
        self.heard().await
    }
}
