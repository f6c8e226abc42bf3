#![doc = include_str!("../docs/limits.md")]

use std::time::Duration;

use crate::error::Error;
use crate::wire::{AGENT_MAX, DEFAULT_TTL, LISTEN_MAX, MAX_FRAME_CEILING, NET_MAX, Wire};

/// The default of [`Config::max_frame`], in bytes.
pub const DEFAULT_MAX_FRAME: usize = 1024 * 1024;

/// The upper bound of [`Config::concurrency`].
pub const MAX_CONCURRENCY: usize = 1024;

/// The default of [`Config::outbox`], in bytes.
pub const DEFAULT_OUTBOX: usize = 4 * 1024 * 1024;

/// The maximum memory of a connection before its peer has introduced itself, in bytes, without TLS.
pub const PENDING_BYTES: usize = 16 * 1024;

/// The longest duration: 30 years. Longer ones are reduced to it, so that deadlines stay within
/// what a clock can represent.
pub const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// The options of an app. [`App`](crate::App) has a method for each that is changed often.
///
/// Durations and counts of zero are taken literally, unless documented otherwise. A duration of
/// [`FOREVER`] or more never elapses.
///
/// ```
/// use std::time::Duration;
///
/// use coalescent::{App, Config};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), coalescent::Error> {
/// let mut config = Config::default();
/// config.max_inbound = 8;
/// config.outbox = 256 * 1024;
/// config.patience = Duration::from_secs(5);
/// // What one peer, and a node full of peers, can make this process keep.
/// assert!(config.peer_bytes() < Config::default().peer_bytes());
///
/// let mesh = App::from_config(config).listen("127.0.0.1:0").await?;
/// assert_eq!(mesh.peers().config().max_inbound, 8);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The number of outbound connections to keep. Seeds, and addresses that were
    /// [suggested](crate::Mesh::suggest), are dialled while fewer, those of
    /// [`Mesh::connect`](crate::Mesh::connect) included, are up or being made. A dial that has
    /// taken 2 s no longer counts, so that an address that swallows what it is sent keeps nobody
    /// else from being tried. If it then succeeds too, there is one more. Default: 3.
    pub min_peers: usize,
    /// The maximum number of outbound connections: while this many are up or being made, nothing
    /// is dialled, except by [`Mesh::connect`](crate::Mesh::connect). Default: 12.
    pub max_peers: usize,
    /// The maximum number of inbound peers; further ones are refused. Default: 64.
    pub max_inbound: usize,
    /// The maximum number of inbound peers from one IP address (with IPv6, one /64), or with one
    /// key over transports without IP addresses. Further ones are refused. Loopback is exempt.
    /// Default: 8.
    pub max_per_ip: usize,
    /// The maximum number of inbound connections in their handshake. At the limit, a new one
    /// evicts the oldest handshake of the address that has the most of them, or is refused. All
    /// that come without an IP address to one listener count as one address.
    /// Default: 32.
    pub max_pending: usize,
    /// The maximum number of inbound [contacts](crate::Registrar::contacts), apart from
    /// [`max_inbound`](Config::max_inbound), and the maximum number of outbound ones, dials of
    /// [`Mesh::contact`](crate::Mesh::contact) that are in progress included. At the limit, a new
    /// inbound one evicts the oldest contact of the address that has the most of them, if it has
    /// lasted for 10 s or that address has more than the newcomer's; otherwise it is told that this
    /// node is busy. It means nothing to an app without contacts. Default: 32.
    pub max_contacts: usize,
    /// The network name. Peers with another name are refused in the handshake. Default: empty.
    pub network: String,
    /// The name of this program, which is sent to peers. Default: `coalescent/` and the version.
    pub agent: String,
    /// The address that is announced to peers for dialling this node, as `host:port`. Without it, a
    /// node that listens announces the port of its first listener, and peers add the address at
    /// which they see the node. Default: none.
    pub advertise: Option<String>,
    /// The wire: how frames are encoded on a socket. Default: [`Wire::native`].
    pub wire: Wire,
    /// The largest frame payload that is accepted and sent, in bytes. A peer that sends a larger
    /// one is disconnected. In the handshake, peers tell each other their limits, and send no
    /// larger payloads. Default: 1 MiB.
    pub max_frame: usize,
    /// The time limit for establishing a connection, at least 0.5 s. If a name resolves to several
    /// addresses, each has it for itself: their attempts are staggered, see
    /// [`Tcp`](crate::transport::Tcp), and it counts from the start of the last one. Resolving the
    /// name has it too. Default: 10 s.
    pub connect_timeout: Duration,
    /// The time limit for a peer's handshake; after it, the connection is closed. Default: 5 s.
    pub handshake_timeout: Duration,
    /// The time limit for receiving a frame, from its first byte. The time that its length takes
    /// at [`slow_floor`] is added: the whole length on the native wire, where the length precedes
    /// the frame, and the part received so far on other wires. A frame therefore takes at most
    /// `frame_timeout` + `max_frame` / `slow_floor`, 94 s by default; with a floor of 0, at most
    /// `frame_timeout`. After it, the peer is disconnected. Default: 30 s.
    ///
    /// [`slow_floor`]: Config::slow_floor
    pub frame_timeout: Duration,
    /// The time without data from a peer after which it is pinged. On wires without liveness
    /// frames, the kernel probes TCP sockets instead: by keepalive, and on Linux also by the TCP
    /// user timeout, so that a peer is disconnected if it acknowledges nothing, or reads nothing
    /// of the data queued for it, for this time plus [`answer_within`](Config::answer_within).
    /// Default: 30 s.
    pub ping_every: Duration,
    /// The time limit for the answer to a ping; after it, the peer is disconnected. Default: 20 s.
    pub answer_within: Duration,
    /// The maximum number of bytes queued for one peer. Each entry counts
    /// [`ENTRY_COST`](crate::outbox::ENTRY_COST) in addition to its length. When the outbox is
    /// full, senders wait or drop frames. Default: 4 MiB.
    pub outbox: usize,
    /// The number of bytes that the read side of the mesh buffers. When it is full, reading from
    /// peers pauses. Default: 1 MiB.
    pub inbox: usize,
    /// The number of bytes that are read ahead while handlers are running, so that control frames
    /// and replies are not delayed by them, and other frames are handled in the meantime. At most
    /// half of it is held by [unfinished calls](Config::concurrency). Requests have
    /// [room of their own](crate::connection::requests_ahead) beside it, so that they never keep
    /// replies from being read. Default: 256 KiB.
    pub read_ahead: usize,
    /// The maximum number of frames of one peer that its stack handles concurrently, from 1 to
    /// [`MAX_CONCURRENCY`]. Default: 64.
    ///
    /// Calls start in the order in which the frames arrived, each once the stack is ready for it.
    /// They overlap where a handler or a layer waits, so a slow handler delays neither relaying nor
    /// other handlers, and a handler may ask the peer whose frame it handles. Once this many are
    /// unfinished, the peer's next frame waits, and is not relayed before. Frames that nothing
    /// waits for are relayed, and reach the read side, in the order in which they arrived; a frame
    /// whose handler waits comes after those that have overtaken it. A layer that hands calls to
    /// another task, as tower's `Buffer` does, does not keep the order.
    ///
    /// With 1, each frame waits for the call before it, whatever that waits for, and is relayed
    /// only then: use it where handlers that wait must see one frame after another.
    ///
    /// Unfinished calls hold their frames, in half of [`read_ahead`](Config::read_ahead) and in one
    /// read buffer. A frame that finds no room there waits for calls to end.
    pub concurrency: usize,
    /// How long a peer's outbox may stay full while it drains more slowly than [`slow_floor`],
    /// before the peer is disconnected as slow. A peer that alternates between bursts and stalls
    /// gets this much time in total. After a peer was disconnected as slow and reconnects, it gets
    /// almost none for a while. Default: 10 s.
    ///
    /// [`slow_floor`]: Config::slow_floor
    pub patience: Duration,
    /// The minimum rate in bytes per second, averaged, at which a peer must read while its outbox
    /// is full, and at which its frames must arrive. Default: 16 KiB per second.
    pub slow_floor: u64,
    /// How long a relay with [`Flow::Drop`](crate::Flow::Drop) waits for room in the outbox of a
    /// peer that was not slow before. Default: 50 ms.
    pub relay_grace: Duration,
    /// The number of [offences](Error::offence) per minute after which a peer is disconnected, and
    /// [banned](Config::ban). They are forgotten evenly over a minute, also while the peer is away.
    /// Offences are frames that the peer itself sent to this node (not relayed ones) and that the
    /// courier cannot decode, or that another layer reports as offences. Other failures, such as
    /// those of handlers, do not count. What [`Peer::penalize`](crate::Peer::penalize) holds
    /// against a peer is added with its weight, and a violation of the protocol of its wire with
    /// more than all. Default: 100.
    pub error_budget: u32,
    /// How long a peer is banned that has exceeded its [`error_budget`](Config::error_budget): it
    /// is neither let in nor dialled, by its proven key and by its IP address (with IPv6, its /64).
    /// Loopback addresses, and keys on the [allow list](crate::Mesh::allow) of an app that has one,
    /// are exempt. Each ban that is [remembered](crate::FORGIVEN_AFTER) doubles the time, up to
    /// [`ban_max`](Config::ban_max). Zero bans nobody: such peers are only disconnected. Default:
    /// 10 minutes.
    pub ban: Duration,
    /// The longest time of a ban, also of those that the application makes with
    /// [`Mesh::ban`](crate::Mesh::ban). Default: 24 hours.
    pub ban_max: Duration,
    /// How long a request may take before it fails: waiting for its turn
    /// ([`REQUEST_WINDOW`](crate::REQUEST_WINDOW)), for room in the outbox, and for its reply.
    /// Default: 30 s.
    pub request_timeout: Duration,
    /// How long a shutdown waits for queued frames to be written, before they are dropped, and for
    /// peers to close. A peer that was sent nothing meanwhile but the goodbye, and says nothing
    /// for 2 seconds, is not waited for. Default: 10 s.
    pub drain: Duration,
    /// The ttl of broadcasts from this node: the number of hops that they may travel. The ttl of
    /// received broadcasts is limited to it. Default: 32.
    pub ttl: u8,
    /// The delay after the first failed dial of an address. It doubles with each failure up to
    /// [`backoff_max`], with full jitter. Default: 0.5 s.
    ///
    /// [`backoff_max`]: Config::backoff_max
    pub backoff: Duration,
    /// The maximum delay between two dials of an address. For 3 minutes after a connection to it
    /// was lost, the maximum is 5 s if that is shorter. A suggested address that has failed 6 times
    /// in a row is not dialled again, and forgotten after this time. Default: 60 s.
    pub backoff_max: Duration,
    /// How long a connection must last to reset the backoff of its address. Default: 30 s.
    pub backoff_reset: Duration,
    /// Whether non-loopback addresses may be used without an identity. If false, listening on and
    /// connecting to them fails. Default: false.
    pub allow_plaintext: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            min_peers: 3,
            max_peers: 12,
            max_inbound: 64,
            max_per_ip: 8,
            max_pending: 32,
            max_contacts: 32,
            network: String::new(),
            agent: concat!("coalescent/", env!("CARGO_PKG_VERSION")).to_owned(),
            advertise: None,
            wire: Wire::native(),
            max_frame: DEFAULT_MAX_FRAME,
            connect_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(5),
            frame_timeout: Duration::from_secs(30),
            ping_every: Duration::from_secs(30),
            answer_within: Duration::from_secs(20),
            outbox: DEFAULT_OUTBOX,
            inbox: 1024 * 1024,
            read_ahead: 256 * 1024,
            concurrency: 64,
            patience: Duration::from_secs(10),
            slow_floor: 16 * 1024,
            relay_grace: Duration::from_millis(50),
            error_budget: 100,
            ban: Duration::from_secs(10 * 60),
            ban_max: Duration::from_secs(24 * 3600),
            request_timeout: Duration::from_secs(30),
            drain: Duration::from_secs(10),
            ttl: DEFAULT_TTL,
            backoff: Duration::from_millis(500),
            backoff_max: Duration::from_secs(60),
            backoff_reset: Duration::from_secs(30),
            allow_plaintext: false,
        }
    }
}

impl Config {
    /// Limits durations to what a clock can represent.
    pub(crate) fn bounded(mut self) -> Self {
        for duration in [
            &mut self.connect_timeout,
            &mut self.handshake_timeout,
            &mut self.frame_timeout,
            &mut self.ping_every,
            &mut self.answer_within,
            &mut self.patience,
            &mut self.relay_grace,
            &mut self.ban,
            &mut self.ban_max,
            &mut self.request_timeout,
            &mut self.drain,
            &mut self.backoff,
            &mut self.backoff_max,
            &mut self.backoff_reset,
        ] {
            *duration = FOREVER.min(*duration);
        }
        self
    }

    /// Checks that the options are valid together.
    ///
    /// # Errors
    ///
    /// Returns an error that names the invalid option and says what to do.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let refuse = |text: String| Err(Error::config(text));
        if self.max_frame == 0 || self.max_frame > MAX_FRAME_CEILING {
            return refuse(format!(
                "max_frame must be from 1 to {MAX_FRAME_CEILING} bytes"
            ));
        }
        if self.concurrency == 0 || self.concurrency > MAX_CONCURRENCY {
            return refuse(format!("concurrency must be from 1 to {MAX_CONCURRENCY}"));
        }
        if self.network.len() > NET_MAX {
            return refuse(format!("the network name must be at most {NET_MAX} bytes"));
        }
        if self.agent.len() > AGENT_MAX {
            return refuse(format!("the agent must be at most {AGENT_MAX} bytes"));
        }
        if self
            .advertise
            .as_ref()
            .is_some_and(|addr| addr.len() > LISTEN_MAX)
        {
            return refuse(format!(
                "the advertised address must be at most {LISTEN_MAX} bytes"
            ));
        }
        Ok(())
    }
}
