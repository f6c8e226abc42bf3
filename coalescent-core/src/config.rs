#![doc = include_str!("../docs/limits.md")]

use std::time::Duration;

use crate::error::Error;
use crate::wire::{AGENT_MAX, LISTEN_MAX, MAX_FRAME_CEILING, NET_MAX, Wire};

/// How large a frame's payload may be, in bytes, unless [`Config::max_frame`] says otherwise.
pub const DEFAULT_MAX_FRAME: usize = 1024 * 1024;

/// How many frames of one peer may be in its stack at a time, at the most.
pub const MAX_CONCURRENCY: usize = 1024;

/// How many bytes may wait to be written to one peer, unless [`Config::outbox`] says otherwise.
pub const DEFAULT_OUTBOX: usize = 4 * 1024 * 1024;

/// What a connection costs at most before its peer has introduced itself, in bytes, without TLS.
pub const PENDING_BYTES: usize = 16 * 1024;

/// The longest duration there is: a longer one is taken as this, so that no deadline is beyond what
/// a clock can show. 30 years.
pub const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// The options of an app; [`App`](crate::App) has a method for each that people change often.
///
/// Durations of zero and counts of zero are taken literally, except where the docs say otherwise. A
/// duration of [`FOREVER`] or more does not end.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Seeds are dialled while fewer than this many connections to seeds are up. Default: 3.
    pub min_peers: usize,
    /// Seeds are never dialled above this many outbound connections. Default: 12.
    pub max_peers: usize,
    /// How many peers may connect to this node at a time. Default: 64.
    pub max_inbound: usize,
    /// How many peers may connect from one IP address (of IPv6, one /64), loopback exempt.
    /// Default: 8.
    pub max_per_ip: usize,
    /// How many accepted connections may be in their handshake at a time. Default: 32.
    pub max_pending: usize,
    /// Peers of another network name are refused at the handshake. Default: the empty name.
    pub network: String,
    /// What other peers are told this node is. Default: `coalescent/` and the version.
    pub agent: String,
    /// What other peers are told of where this node can be dialled, as `host:port`. Default:
    /// nothing.
    pub advertise: Option<String>,
    /// How frames stand on a socket. Default: [`Wire::native`].
    pub wire: Wire,
    /// The largest payload of a frame, in bytes, that is taken and sent. Peers with a handshake
    /// are told, and are sent no more than they tell in turn. Default: 1 MiB.
    pub max_frame: usize,
    /// How long making a connection may take, whichever of the addresses of its name it comes to
    /// be made to; they are tried staggered, see [`Tcp`](crate::transport::Tcp). Default: 10 s.
    pub connect_timeout: Duration,
    /// How long a peer may take to introduce itself. Default: 5 s.
    pub handshake_timeout: Duration,
    /// How long a frame may take to arrive, from its first byte, besides what its length takes at
    /// [`slow_floor`] (`Config::slow_floor`): its whole length on the native wire, where that
    /// stands before it, else what has come of it. So no frame takes longer than this and
    /// `max_frame` / `slow_floor`, 94 s by default; with a floor of 0 none longer than this.
    /// Default: 30 s.
    ///
    /// [`slow_floor`]: Config::slow_floor
    pub frame_timeout: Duration,
    /// A peer that has said nothing for this long is asked whether it is there. On wires without
    /// liveness frames the kernel asks, where the connection is a TCP socket: by keepalive, and on
    /// Linux also by its user timeout, so that a peer is given up that acknowledges nothing, or
    /// takes nothing of what waits for it, for as long as this and
    /// [`answer_within`](Config::answer_within). Default: 30 s.
    pub ping_every: Duration,
    /// How long it may take to answer. Default: 20 s.
    pub answer_within: Duration,
    /// How many bytes may wait to be written to one peer. Each entry counts for
    /// [`ENTRY_COST`](crate::outbox::ENTRY_COST) more than its bytes. Default: 4 MiB.
    pub outbox: usize,
    /// How many bytes the read side of the mesh holds before it holds back the peers. Default: 1
    /// MiB.
    pub inbox: usize,
    /// How many bytes are read ahead of a handler that has not finished, so that control frames
    /// and replies get past it. Default: 256 KiB.
    pub read_ahead: usize,
    /// How many frames of one peer may be in its stack at a time. Above 1, they no longer end in
    /// the order in which they came. Default: 1.
    pub concurrency: usize,
    /// How long a peer's outbox may stay full while it drains less than [`slow_floor`]
    /// (`Config::slow_floor`), before the peer is disconnected. A peer that takes much at once and
    /// then nothing, again and again, has as long in all. One that was disconnected so, and comes
    /// back, has next to none for a while. Default: 10 s.
    ///
    /// [`slow_floor`]: Config::slow_floor
    pub patience: Duration,
    /// What a peer must take on average while its outbox is full, and how fast a frame of its own
    /// must come, in bytes a second. Default: 16 KiB.
    pub slow_floor: u64,
    /// How long a relay of [`Flow::Drop`](crate::Flow::Drop) waits for room in a peer that was not
    /// slow before. Default: 50 ms.
    pub relay_grace: Duration,
    /// How many [offences](Error::offence) a peer may commit in a minute before it is
    /// disconnected: frames that it sent to this node, and did not pass on, and that the courier
    /// takes for no messages, or that another layer finds as wrong. What fails otherwise, such as
    /// a handler, does not count. Default: 100.
    pub error_budget: u32,
    /// How long a request waits for its reply. Default: 30 s.
    pub request_timeout: Duration,
    /// How long shutting down waits for what is queued to be written. Default: 10 s.
    pub drain: Duration,
    /// The ttl of the broadcasts made here: through how many nodes they may go. A higher one in a
    /// broadcast that arrives is taken for this one. Default: 32.
    pub ttl: u8,
    /// The wait after the first failed dial of a seed; it doubles up to [`backoff_max`]
    /// (`Config::backoff_max`), with full jitter. Default: 0.5 s.
    ///
    /// [`backoff_max`]: Config::backoff_max
    pub backoff: Duration,
    /// The longest wait between two dials of a seed. For 3 minutes after a connection to it was
    /// lost it is 5 s, if this is not less. Default: 60 s.
    pub backoff_max: Duration,
    /// How long a connection must have been up for the seed's backoff to start over. Default: 30
    /// s.
    pub backoff_reset: Duration,
    /// Whether addresses other than loopback may be used without an identity. Default: false.
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
            concurrency: 1,
            patience: Duration::from_secs(10),
            slow_floor: 16 * 1024,
            relay_grace: Duration::from_millis(50),
            error_budget: 100,
            request_timeout: Duration::from_secs(30),
            drain: Duration::from_secs(10),
            ttl: 32,
            backoff: Duration::from_millis(500),
            backoff_max: Duration::from_secs(60),
            backoff_reset: Duration::from_secs(30),
            allow_plaintext: false,
        }
    }
}

impl Config {
    /// Shortens the durations that no clock can show.
    pub(crate) fn bounded(mut self) -> Self {
        for duration in [
            &mut self.connect_timeout,
            &mut self.handshake_timeout,
            &mut self.frame_timeout,
            &mut self.ping_every,
            &mut self.answer_within,
            &mut self.patience,
            &mut self.relay_grace,
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

    /// Checks that the options can be used together.
    ///
    /// # Errors
    ///
    /// Says which one can't, and what to do.
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
