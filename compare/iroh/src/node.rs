//! One iroh-gossip node, and how it is configured.
//!
//! - The endpoint is bound to loopback and nothing else, without relay, discovery or port mapping.
//!   Nodes are told each other's addresses.
//! - QUIC has its defaults: larger windows were not faster. It is always encrypted, and iroh limits
//!   its packets to 1452 bytes, also on loopback.
//! - HyParView, which makes the topology, has its defaults in a mesh, except for the number of
//!   links. In a star it is kept from making links of its own ([`Place`]): the hub accepts any
//!   number of neighbours, and the others accept one, and refuse to connect to anybody else. It is
//!   not made for this, but there is no other way to compare what one node can forward.
//! - Plumtree, which forwards, keeps messages for 0.5 s in a star, and the ids of seen messages for
//!   10 s. With the defaults, 30 s and 90 s, a node would hold gigabytes at these rates, for
//!   neighbours that ask for a message they have learned of elsewhere, which cannot happen here. A
//!   mesh has the defaults.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use common::{Failed, PATIENCE};
use futures::StreamExt;
use iroh::address_lookup::memory::MemoryLookup;
use iroh::endpoint::{BeforeConnectOutcome, EndpointHooks, presets};
use iroh::protocol::Router;
use iroh::{Endpoint, EndpointAddr, EndpointId, RelayMode, TransportAddr};
use iroh_gossip::api::{Event, GossipReceiver, GossipSender, JoinOptions};
use iroh_gossip::proto::{HyparviewConfig, PlumtreeConfig};
use iroh_gossip::{Gossip, TopicId};
use tokio::time::timeout;

/// Messages that an application may be behind before iroh-gossip drops what it has not read.
pub(crate) const BACKLOG: u64 = 256;

/// Larger than any message that is measured.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

const TOPIC: TopicId = TopicId::from_bytes([0x74; 32]);

/// The place of a node in the topology.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// In the middle of a star.
    Hub,
    /// Connected to the hub, and nobody else.
    Spoke(EndpointAddr),
    /// Where HyParView puts it, with so many links.
    Anywhere(usize),
}

/// An iroh-gossip node. It works in tasks of its own until it is dropped.
pub(crate) struct Node {
    router: Router,
    gossip: Gossip,
    lookup: MemoryLookup,
    bound: bool,
}

impl Node {
    /// Makes a node that listens on a free port of loopback, and has no connections.
    pub(crate) async fn new(place: &Place) -> Result<Self, Failed> {
        let lookup = MemoryLookup::new();
        let mut builder = Endpoint::builder(presets::Minimal)
            .relay_mode(RelayMode::Disabled)
            .clear_ip_transports()
            .bind_addr("127.0.0.1:0")?
            .address_lookup(lookup.clone());
        if let Place::Spoke(hub) = place {
            lookup.add_endpoint_info(hub.clone());
            builder = builder.hooks(Only(hub.id));
        }
        let endpoint = builder.bind().await?;
        let mut membership = HyparviewConfig::default();
        let mut broadcast = PlumtreeConfig::default();
        match place {
            Place::Hub => membership.active_view_capacity = 100_000,
            Place::Spoke(_) => membership.active_view_capacity = 1,
            Place::Anywhere(links) => membership.active_view_capacity = *links,
        }
        if !matches!(place, Place::Anywhere(_)) {
            broadcast.message_cache_retention = Duration::from_millis(500);
            broadcast.message_id_retention = Duration::from_secs(10);
            broadcast.cache_evict_interval = Duration::from_millis(100);
        }
        let gossip = Gossip::builder()
            .max_message_size(MAX_MESSAGE)
            .membership_config(membership)
            .broadcast_config(broadcast)
            .spawn(endpoint.clone());
        let router = Router::builder(endpoint)
            .accept(iroh_gossip::ALPN, gossip.clone())
            .spawn();
        Ok(Self {
            router,
            gossip,
            lookup,
            bound: matches!(place, Place::Spoke(_)),
        })
    }

    /// Returns the node's id and address.
    pub(crate) fn addr(&self) -> EndpointAddr {
        let sockets = self.router.endpoint().bound_sockets();
        EndpointAddr::from_parts(
            self.router.endpoint().id(),
            sockets.into_iter().map(TransportAddr::Ip),
        )
    }

    /// Tells the node the address of another.
    pub(crate) fn learn(&self, other: EndpointAddr) {
        self.lookup.add_endpoint_info(other);
    }

    /// Takes part in the topic, through nodes whose addresses it knows.
    pub(crate) async fn join(
        &self,
        others: impl IntoIterator<Item = EndpointId>,
    ) -> Result<(GossipSender, Heard), Failed> {
        let bootstrap: BTreeSet<EndpointId> = others.into_iter().collect();
        let alone = bootstrap.is_empty();
        let options = JoinOptions {
            bootstrap,
            subscription_capacity: 4 * BACKLOG as usize,
        };
        let mut topic = self.gossip.subscribe_with_opts(TOPIC, options).await?;
        if !alone {
            timeout(PATIENCE, topic.joined())
                .await
                .map_err(|_| "cannot join in time")??;
        }
        let (sender, receiver) = topic.split();
        let bound = self.bound;
        Ok((sender, Heard { receiver, bound }))
    }

    /// Connects to another node, and takes part in nothing.
    pub(crate) async fn connect(&self, other: EndpointAddr) -> Result<(), Failed> {
        let connecting = self.router.endpoint().connect(other, iroh_gossip::ALPN);
        let connection = timeout(PATIENCE, connecting)
            .await
            .map_err(|_| "cannot connect in time")??;
        self.gossip.handle_connection(connection).await?;
        Ok(())
    }
}

/// The messages that a node receives.
pub(crate) struct Heard {
    receiver: GossipReceiver,
    /// Whether the node has no path to its topic but its present neighbours.
    bound: bool,
}

impl Heard {
    /// Waits for a message.
    pub(crate) async fn next(&mut self) -> Result<Bytes, Failed> {
        loop {
            match self.receiver.next().await.ok_or("a node has ended")?? {
                Event::Received(message) => return Ok(message.content),
                Event::NeighborDown(_) if self.bound => return Err("the hub has gone".into()),
                Event::NeighborDown(_) | Event::NeighborUp(_) | Event::Lagged => {}
            }
        }
    }
}

/// A hook that lets a node connect to one other only.
#[derive(Debug)]
struct Only(EndpointId);

impl EndpointHooks for Only {
    async fn before_connect<'a>(
        &'a self,
        remote: &'a EndpointAddr,
        _alpn: &'a [u8],
    ) -> BeforeConnectOutcome {
        if remote.id == self.0 {
            BeforeConnectOutcome::Accept
        } else {
            BeforeConnectOutcome::Reject
        }
    }
}

/// Returns an address as text without spaces.
pub(crate) fn to_text(addr: &EndpointAddr) -> String {
    let socket = addr
        .ip_addrs()
        .next()
        .map(ToString::to_string)
        .unwrap_or_default();
    format!("{}@{socket}", addr.id)
}

/// Reads an address from its text.
pub(crate) fn from_text(text: &str) -> Option<EndpointAddr> {
    let (id, socket) = text.split_once('@')?;
    let socket: SocketAddr = socket.parse().ok()?;
    Some(EndpointAddr::from_parts(
        id.parse().ok()?,
        [TransportAddr::Ip(socket)],
    ))
}
