//! Many nodes in one process, each with a socket of its own. All links of the graph are in the
//! gossipsub mesh.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Duration;

use common::flow::{numbered, payload};
use common::mesh::{Mesh, flood, links};
use common::options::Options;
use common::star::{Tasks, unless_one_fails};
use common::{Failed, PATIENCE};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::node::{Node, QUEUE, Shape};

/// The state that the nodes share.
#[derive(Default)]
struct Progress {
    /// Nodes that forward to all their neighbours.
    ready: AtomicUsize,
    deliveries: AtomicU64,
}

/// The nodes, as the flood sees them.
struct Nodes {
    /// For each node, the numbers of the messages that it has to publish.
    publishes: Vec<mpsc::UnboundedSender<u64>>,
    progress: Arc<Progress>,
}

impl Mesh for Nodes {
    const IN_FLIGHT: u64 = QUEUE as u64;

    async fn publish(&mut self, node: usize, number: u64) -> Result<(), Failed> {
        Ok(self.publishes[node].send(number)?)
    }

    fn delivered(&self) -> u64 {
        self.progress.deliveries.load(Relaxed)
    }
}

/// Floods all messages through the graph.
pub(crate) async fn run(options: &Options) -> Result<(), Failed> {
    let mut nodes = Vec::new();
    let mut ports = Vec::new();
    for _ in 0..options.nodes {
        let mut node = Node::new(Shape::Mesh, options.tls)?;
        node.subscribe()?;
        ports.push(node.listen().await?);
        nodes.push(node);
    }
    let progress = Arc::new(Progress::default());
    let mut tasks = Tasks::new();
    let mut publishes = Vec::new();
    let links = links(options);
    for (index, node) in nodes.into_iter().enumerate() {
        let dialled = links.iter().filter(|link| link.0 == index);
        let dialled = dialled.map(|link| ports[link.1]).collect();
        let own = links
            .iter()
            .filter(|link| link.0 == index || link.1 == index);
        let (publisher, told) = mpsc::unbounded_channel();
        publishes.push(publisher);
        let progress = Arc::clone(&progress);
        let part = take_part(node, dialled, own.count(), told, options.clone(), progress);
        tasks.spawn(part);
    }
    let flooded = async {
        let all_ready = async {
            while progress.ready.load(Relaxed) < options.nodes {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, all_ready)
            .await
            .map_err(|_| "the mesh is not connected in time")?;
        // Connecting may have left work to do.
        sleep(options.warmup).await;
        let progress = Arc::clone(&progress);
        flood(
            options,
            &mut Nodes {
                publishes,
                progress,
            },
        )
        .await
    };
    unless_one_fails(&mut tasks, flooded).await
}

/// Connects a node, then publishes what it is told to, and counts what it receives.
async fn take_part(
    mut node: Node,
    dialled: Vec<u16>,
    neighbours: usize,
    mut told: mpsc::UnboundedReceiver<u64>,
    options: Options,
    progress: Arc<Progress>,
) -> Result<Infallible, Failed> {
    for port in dialled {
        node.connect(port).await?;
    }
    while node.meshed() < neighbours {
        node.next().await;
    }
    progress.ready.fetch_add(1, Relaxed);
    let mut heard = vec![false; options.messages as usize];
    loop {
        tokio::select! {
            message = node.heard() => {
                let (_, number) = numbered(&message?)?;
                let heard = heard.get_mut(number as usize).ok_or("nobody has sent this")?;
                if std::mem::replace(heard, true) {
                    return Err(format!("a node has heard message {number} twice").into());
                }
                progress.deliveries.fetch_add(1, Relaxed);
            }
            Some(number) = told.recv() => {
                if !node.publish(payload(0, number, options.size))? {
                    return Err("the queues of a publisher are full".into());
                }
            }
        }
    }
}
