//! One gossipsub node, and how it is configured.
//!
//! This is the fastest configuration found among those that lose nothing:
//!
//! - TCP with `TCP_NODELAY`, yamux, and the plaintext handshake, as the other systems are measured
//!   without encryption too; with `--tls`, libp2p's TLS 1.3. Nothing else is on: no identify, ping,
//!   discovery or name service.
//! - Messages carry no author, sequence number or signature, and none are required. The counter in
//!   the first 8 bytes identifies a message, so nothing is hashed.
//! - The gossipsub mesh accepts every link, so that a hub forwards to all its subscribers at once
//!   and nobody learns of a message later by gossip. New subscribers join at once, not at the next
//!   heartbeat.
//! - In a star there is one path for each message. So nothing is kept for gossip, no peer is told
//!   which messages it need not send, and seen messages are remembered for 10 s instead of 60. A
//!   mesh has the defaults.
//! - No message is dropped for waiting too long. The queues have their default capacity, 5000
//!   messages for each peer, and publishers keep no more than that in flight.
//! - The channel from a connection to its node holds 64 events, more than by default, which saves
//!   switches between tasks.

use std::convert::Infallible;
use std::sync::OnceLock;
use std::time::Duration;

use common::{Failed, PATIENCE};
use futures::{FutureExt, StreamExt};
use libp2p::gossipsub::{
    Behaviour, ConfigBuilder, Event, IdentTopic, MessageAuthenticity, MessageId, PublishError,
    ValidationMode,
};
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, plaintext, tcp, tls, yamux};
use tokio::time::timeout;

/// Capacity of the queue of a peer, in messages.
pub(crate) const QUEUE: usize = 5000;

/// More peers than any node here has.
const ALL_PEERS: usize = 100_000;

/// Larger than any message that is measured.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// How the nodes are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// All to one hub.
    Star,
    /// To each other, with circles.
    Mesh,
}

/// A gossipsub node. It works only while one of its futures is polled.
pub(crate) struct Node {
    swarm: Swarm<Behaviour>,
}

impl Node {
    /// Makes a node without connections.
    pub(crate) fn new(shape: Shape, tls: bool) -> Result<Self, Failed> {
        let builder = SwarmBuilder::with_new_identity().with_tokio();
        let tcp = tcp::Config::default().nodelay(true);
        let behaviour = behaviour(shape)?;
        let configure = |config: libp2p::swarm::Config| {
            config
                .with_idle_connection_timeout(NEVER)
                .with_per_connection_event_buffer_size(64)
        };
        let swarm = if tls {
            builder
                .with_tcp(tcp, tls::Config::new, yamux::Config::default)?
                .with_behaviour(|_| behaviour)?
                .with_swarm_config(configure)
                .build()
        } else {
            builder
                .with_tcp(tcp, unencrypted, yamux::Config::default)?
                .with_behaviour(|_| behaviour)?
                .with_swarm_config(configure)
                .build()
        };
        Ok(Self { swarm })
    }

    /// Listens on a free port of loopback, and returns it.
    pub(crate) async fn listen(&mut self) -> Result<u16, Failed> {
        self.swarm.listen_on(loopback(0))?;
        let listening = async {
            loop {
                if let SwarmEvent::NewListenAddr { address, .. } = self.next().await
                    && let Some(Protocol::Tcp(port)) = address.iter().nth(1)
                {
                    return port;
                }
            }
        };
        Ok(timeout(PATIENCE, listening)
            .await
            .map_err(|_| "cannot listen")?)
    }

    /// Connects to the node that listens on a port, and returns its id.
    pub(crate) async fn connect(&mut self, port: u16) -> Result<PeerId, Failed> {
        self.swarm.dial(loopback(port))?;
        let connected = async {
            loop {
                match self.next().await {
                    SwarmEvent::ConnectionEstablished {
                        peer_id, endpoint, ..
                    } if endpoint.is_dialer() => return Ok(peer_id),
                    SwarmEvent::OutgoingConnectionError { error, .. } => {
                        return Err(Failed::from(format!("cannot connect: {error}")));
                    }
                    _ => {}
                }
            }
        };
        timeout(PATIENCE, connected)
            .await
            .map_err(|_| "cannot connect in time")?
    }

    /// Receives and forwards messages from now on.
    pub(crate) fn subscribe(&mut self) -> Result<(), Failed> {
        self.swarm.behaviour_mut().subscribe(topic())?;
        Ok(())
    }

    /// Queues a message for all subscribers. Returns false if there is none, or all queues are
    /// full.
    pub(crate) fn publish(&mut self, payload: Vec<u8>) -> Result<bool, Failed> {
        match self.swarm.behaviour_mut().publish(topic().hash(), payload) {
            Ok(_) => Ok(true),
            Err(PublishError::NoPeersSubscribedToTopic | PublishError::AllQueuesFull(_)) => {
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the number of peers that messages are forwarded to.
    pub(crate) fn meshed(&self) -> usize {
        self.swarm.behaviour().mesh_peers(&topic().hash()).count()
    }

    /// Returns the number of connected peers.
    pub(crate) fn connected(&self) -> usize {
        self.swarm.network_info().num_peers()
    }

    /// Works until there is an event.
    pub(crate) async fn next(&mut self) -> SwarmEvent<Event> {
        self.swarm.select_next_some().await
    }

    /// Works until there is a message, and returns its payload.
    pub(crate) async fn heard(&mut self) -> Result<Vec<u8>, Failed> {
        loop {
            match self.next().await {
                SwarmEvent::Behaviour(Event::Message { message, .. }) => return Ok(message.data),
                SwarmEvent::ConnectionClosed { .. } => return Err("a connection has ended".into()),
                _ => {}
            }
        }
    }

    /// Works until another future is ready.
    pub(crate) async fn work_until<T>(&mut self, done: impl Future<Output = T>) -> T {
        tokio::pin!(done);
        loop {
            tokio::select! {
                biased;
                result = &mut done => return result,
                _ = self.next() => {}
            }
        }
    }

    /// Does all work that is ready.
    pub(crate) fn work_off(&mut self) {
        while self.next().now_or_never().is_some() {}
    }
}

fn behaviour(shape: Shape) -> Result<Behaviour, Failed> {
    let mut config = ConfigBuilder::default();
    config
        .validation_mode(ValidationMode::Anonymous)
        .message_id_fn(|message| MessageId::from(message.data.get(..8).unwrap_or_default()))
        .max_transmit_size(MAX_MESSAGE)
        .flood_publish(true)
        .mesh_outbound_min(0)
        .mesh_n_low(ALL_PEERS)
        .mesh_n(ALL_PEERS)
        .mesh_n_high(ALL_PEERS)
        .connection_handler_queue_len(QUEUE)
        .publish_queue_duration(NEVER)
        .forward_queue_duration(NEVER)
        .heartbeat_initial_delay(Duration::from_millis(100));
    if shape == Shape::Star {
        config
            .history_length(0)
            .history_gossip(0)
            .duplicate_cache_time(Duration::from_secs(10))
            .idontwant_message_size_threshold(MAX_MESSAGE);
    }
    Ok(Behaviour::new(
        MessageAuthenticity::Anonymous,
        config.build()?,
    )?)
}

fn unencrypted(identity: &Keypair) -> Result<plaintext::Config, Infallible> {
    Ok(plaintext::Config::new(identity))
}

fn topic() -> &'static IdentTopic {
    static TOPIC: OnceLock<IdentTopic> = OnceLock::new();
    TOPIC.get_or_init(|| IdentTopic::new("t"))
}

fn loopback(port: u16) -> Multiaddr {
    Multiaddr::empty()
        .with(Protocol::Ip4([127, 0, 0, 1].into()))
        .with(Protocol::Tcp(port))
}
