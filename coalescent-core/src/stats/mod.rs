//! Counters of frames and bytes, per peer and per node.

pub(crate) mod meter;

use std::ops::{Add, AddAssign};
#[cfg(feature = "metrics")]
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use meter::Meter;

/// The numbers of frames and bytes that were received and sent. Control frames (handshake,
/// liveness) and those of channels do not count as frames. A frame that takes no bytes on a peer's
/// wire, such as an empty payload on `raw` or `lines`, counts as written.
///
/// ```
/// # use coalescent::{App, transport::Memory};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let network = Memory::new();
/// # let alice = App::new().transport(network.clone()).listen("alice:1").await?;
/// # let bob = App::new().transport(network).start().await?;
/// let peer = bob.connect("alice:1").await?;
/// let _ = bob.broadcast_payloads(["beep", "boop"]).await?;
/// bob.peers().flushed().await;
/// assert_eq!(peer.stats().sent, 2);  // to this peer
/// assert_eq!(bob.stats().sent, 2);   // to all, those that have left included
/// assert_eq!(bob.stats().dropped, 0);
/// # drop(alice);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Frames received.
    pub received: u64,
    /// Frames that passed the stack and reached the read side of the mesh, whether read or
    /// discarded there.
    pub delivered: u64,
    /// This node's own frames, counted once for each peer to which they were written.
    pub sent: u64,
    /// Relayed frames of other nodes, counted once for each peer to which they were written.
    pub relayed: u64,
    /// Frames that had been received before.
    pub duplicates: u64,
    /// Frames that were accepted for a peer but not written to it.
    pub dropped: u64,
    /// Broadcasts that were not relayed because of a [`Verdict`](crate::Verdict): a layer judged
    /// that they are not to be passed on, or none accepted them for the relay that waited for it.
    /// Counted once, for the peer that sent them.
    pub withheld: u64,
    /// Frames of an unknown kind, which were skipped.
    pub unknown: u64,
    /// Bytes read from sockets after the handshake, including framing.
    pub bytes_received: u64,
    /// Bytes written to sockets after the handshake, including framing.
    pub bytes_sent: u64,
    /// Frames of channels that were written to peers.
    pub channel_sent: u64,
    /// Frames of channels that arrived, for channels that this node knows.
    pub channel_received: u64,
    /// Frames of channels that were accepted for a peer but not written to it, and those that
    /// arrived but found no room in the queue of their channel, or whose peer left before they were
    /// handled.
    pub channel_dropped: u64,
}

#[cfg(feature = "metrics")]
impl Stats {
    /// Returns the difference between this and an `earlier` snapshot.
    fn since(&self, earlier: &Self) -> Self {
        Self {
            received: self.received.saturating_sub(earlier.received),
            delivered: self.delivered.saturating_sub(earlier.delivered),
            sent: self.sent.saturating_sub(earlier.sent),
            relayed: self.relayed.saturating_sub(earlier.relayed),
            duplicates: self.duplicates.saturating_sub(earlier.duplicates),
            dropped: self.dropped.saturating_sub(earlier.dropped),
            withheld: self.withheld.saturating_sub(earlier.withheld),
            unknown: self.unknown.saturating_sub(earlier.unknown),
            bytes_received: self.bytes_received.saturating_sub(earlier.bytes_received),
            bytes_sent: self.bytes_sent.saturating_sub(earlier.bytes_sent),
            channel_sent: self.channel_sent.saturating_sub(earlier.channel_sent),
            channel_received: self
                .channel_received
                .saturating_sub(earlier.channel_received),
            channel_dropped: self.channel_dropped.saturating_sub(earlier.channel_dropped),
        }
    }
}

impl Add for Stats {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            received: self.received + other.received,
            delivered: self.delivered + other.delivered,
            sent: self.sent + other.sent,
            relayed: self.relayed + other.relayed,
            duplicates: self.duplicates + other.duplicates,
            dropped: self.dropped + other.dropped,
            withheld: self.withheld + other.withheld,
            unknown: self.unknown + other.unknown,
            bytes_received: self.bytes_received + other.bytes_received,
            bytes_sent: self.bytes_sent + other.bytes_sent,
            channel_sent: self.channel_sent + other.channel_sent,
            channel_received: self.channel_received + other.channel_received,
            channel_dropped: self.channel_dropped + other.channel_dropped,
        }
    }
}

impl AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// The counters of one peer. Each peer has its own, so that peers do not contend for them.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    received: AtomicU64,
    delivered: AtomicU64,
    sent: AtomicU64,
    relayed: AtomicU64,
    duplicates: AtomicU64,
    dropped: AtomicU64,
    withheld: AtomicU64,
    unknown: AtomicU64,
    bytes_received: AtomicU64,
    bytes_sent: AtomicU64,
    channel_sent: AtomicU64,
    channel_received: AtomicU64,
    channel_dropped: AtomicU64,
    /// The values that have been reported to the node's meter.
    #[cfg(feature = "metrics")]
    metered: Mutex<Stats>,
}

impl Counters {
    pub(crate) fn add_received(&self, frames: u64) {
        self.received.fetch_add(frames, Relaxed);
    }

    pub(crate) fn add_delivered(&self, frames: u64) {
        self.delivered.fetch_add(frames, Relaxed);
    }

    pub(crate) fn add_written(&self, own: u64, relayed: u64) {
        if own > 0 {
            self.sent.fetch_add(own, Relaxed);
        }
        if relayed > 0 {
            self.relayed.fetch_add(relayed, Relaxed);
        }
    }

    pub(crate) fn add_duplicate(&self) {
        self.duplicates.fetch_add(1, Relaxed);
    }

    pub(crate) fn add_dropped(&self, frames: u64) {
        self.dropped.fetch_add(frames, Relaxed);
    }

    pub(crate) fn add_withheld(&self, frames: u64) {
        self.withheld.fetch_add(frames, Relaxed);
    }

    pub(crate) fn add_unknown(&self) {
        self.unknown.fetch_add(1, Relaxed);
    }

    pub(crate) fn add_channel_sent(&self, frames: u64) {
        self.channel_sent.fetch_add(frames, Relaxed);
    }

    pub(crate) fn add_channel_received(&self) {
        self.channel_received.fetch_add(1, Relaxed);
    }

    pub(crate) fn add_channel_dropped(&self, frames: u64) {
        self.channel_dropped.fetch_add(frames, Relaxed);
    }

    pub(crate) fn add_bytes_received(&self, bytes: usize) {
        self.bytes_received.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn bytes_received(&self) -> u64 {
        self.bytes_received.load(Relaxed)
    }

    pub(crate) fn add_bytes_sent(&self, bytes: usize) {
        self.bytes_sent.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn bytes_sent(&self) -> u64 {
        self.bytes_sent.load(Relaxed)
    }

    /// Reports the counts since the last report to the meter.
    #[cfg(feature = "metrics")]
    pub(crate) fn tell(&self, meter: &Meter) {
        let mut metered = self
            .metered
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = self.snapshot();
        let since = now.since(&metered);
        *metered = now;
        drop(metered);
        meter.add(&since);
    }

    #[cfg(not(feature = "metrics"))]
    pub(crate) fn tell(&self, _meter: &Meter) {}

    pub(crate) fn snapshot(&self) -> Stats {
        Stats {
            received: self.received.load(Relaxed),
            delivered: self.delivered.load(Relaxed),
            sent: self.sent.load(Relaxed),
            relayed: self.relayed.load(Relaxed),
            duplicates: self.duplicates.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
            withheld: self.withheld.load(Relaxed),
            unknown: self.unknown.load(Relaxed),
            bytes_received: self.bytes_received.load(Relaxed),
            bytes_sent: self.bytes_sent.load(Relaxed),
            channel_sent: self.channel_sent.load(Relaxed),
            channel_received: self.channel_received.load(Relaxed),
            channel_dropped: self.channel_dropped.load(Relaxed),
        }
    }
}
