//! One gossipsub node, and how it is configured.
//!
//! The configuration is the fastest one that was found, of those that lose nothing:
//!
//! - TCP with `TCP_NODELAY`, yamux, and the plaintext handshake, as the other systems are measured
//!   without encryption too; with `--tls`, TLS 1.3 as libp2p does it. Nothing else is on: no
//!   identify, ping, discovery or name service.
//! - Messages carry no author, sequence number or signature, and none are asked for. A message is
//!   identified by the counter in its first 8 bytes, so nothing is hashed.
//! - The gossipsub mesh takes every link there is, so that a hub forwards to all its subscribers at
//!   once, and nobody is left to hear of a message later by gossip. New subscribers are taken at
//!   once, not at the next heartbeat.
//! - In a star there is one way for each message, so nothing is kept for gossip, no peer is told
//!   what it need not send, and what has been seen is remembered for 10 s instead of 60. In a mesh
//!   all of that is as usual.
//! - Nothing waits in a queue for so long that it is dropped for it. The queues have their usual
//!   capacity, 5000 messages for each peer, and publishers leave no more than that under way.
//! - The channel from a connection to its node holds more events than usual, 64, which saves
//!   switches between tasks.

use std::convert::Infallible;
use std::sync::OnceLock;
use std::time::Duration;

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

use crate::report::{Failed, PATIENCE};

/// How many messages may wait for a peer.
pub(crate) const QUEUE: usize = 5000;

/// More than any node here has peers.
const ALL_PEERS: usize = 100_000;

/// Larger than any message that is measured.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// What the nodes are connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// All to one hub.
    Star,
    /// To each other, with circles.
    Mesh,
}

/// A gossipsub node. It does nothing while nobody waits for what it does next.
pub(crate) struct Node {
    swarm: Swarm<Behaviour>,
}

impl Node {
    /// A node that is connected to nothing.
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

    /// Connects to what listens on a port, and returns its name.
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

    /// Hears, and forwards, what is published from now on.
    pub(crate) fn subscribe(&mut self) -> Result<(), Failed> {
        self.swarm.behaviour_mut().subscribe(topic())?;
        Ok(())
    }

    /// Hands a message to the connections, if one of them has room for it and leads to a
    /// subscriber.
    pub(crate) fn publish(&mut self, payload: Vec<u8>) -> Result<bool, Failed> {
        match self.swarm.behaviour_mut().publish(topic().hash(), payload) {
            Ok(_) => Ok(true),
            Err(PublishError::NoPeersSubscribedToTopic | PublishError::AllQueuesFull(_)) => {
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// How many peers messages are forwarded to.
    pub(crate) fn meshed(&self) -> usize {
        self.swarm.behaviour().mesh_peers(&topic().hash()).count()
    }

    /// How many peers are connected.
    pub(crate) fn connected(&self) -> usize {
        self.swarm.network_info().num_peers()
    }

    /// Works until there is something to know.
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

    /// Works until something else is done.
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

    /// Works off what can be done without waiting.
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
