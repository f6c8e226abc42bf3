//! Metrics, reported through the `metrics` facade if the feature `metrics` is enabled; otherwise
//! no-ops.
//!
//! The handles are registered once per node, with the recorder that is installed when the node is
//! created. A peer's own [`Counters`](crate::stats::Counters) are reported once per block read and
//! once per write, not per frame. All labels are words of this crate. Text from a peer never
//! becomes a label, because each new label would take memory forever.

use std::time::Duration;

#[cfg(feature = "metrics")]
pub(crate) use ::metrics::Gauge;
#[cfg(feature = "metrics")]
use ::metrics::{Counter, Histogram};
#[cfg(not(feature = "metrics"))]
pub(crate) use nothing::Gauge;
#[cfg(not(feature = "metrics"))]
use nothing::{Counter, Histogram};

use crate::reason::{DisconnectReason, DropReason};
#[cfg(feature = "metrics")]
use crate::stats::Stats;
use crate::transport::Direction;

/// No-op replacements of the facade's types.
#[cfg(not(feature = "metrics"))]
mod nothing {
    #[derive(Clone, Debug)]
    pub(crate) struct Counter;

    impl Counter {
        pub(crate) fn increment(&self, _by: u64) {}
    }

    #[derive(Clone, Debug)]
    pub(crate) struct Gauge;

    impl Gauge {
        pub(crate) fn increment(&self, _by: f64) {}
        pub(crate) fn decrement(&self, _by: f64) {}
    }

    #[derive(Clone, Debug)]
    pub(crate) struct Histogram;

    impl Histogram {
        pub(crate) fn record(&self, _value: f64) {}
    }
}

/// Registers a handle; creates a no-op without the feature.
macro_rules! register {
    ($kind:ident $describe:ident $type:ident, $name:literal $(, $label:literal => $value:expr)*; $unit:ident, $text:literal) => {{
        #[cfg(feature = "metrics")]
        {
            ::metrics::$describe!($name, ::metrics::Unit::$unit, $text);
            ::metrics::$kind!($name $(, $label => $value)*)
        }
        #[cfg(not(feature = "metrics"))]
        {
            $(let _ = $value;)*
            $type
        }
    }};
}

macro_rules! counter {
    ($($rest:tt)*) => { register!(counter describe_counter Counter, $($rest)*) };
}

macro_rules! gauge {
    ($($rest:tt)*) => {{
        #[cfg(not(feature = "metrics"))]
        use nothing::Gauge;
        register!(gauge describe_gauge Gauge, $($rest)*)
    }};
}

macro_rules! histogram {
    ($($rest:tt)*) => { register!(histogram describe_histogram Histogram, $($rest)*) };
}

/// The metric handles of one node.
#[cfg_attr(
    not(feature = "metrics"),
    allow(dead_code, reason = "nobody is told anything")
)]
#[derive(Debug)]
pub(crate) struct Meter {
    inbound: Gauge,
    outbound: Gauge,
    connected_inbound: Counter,
    connected_outbound: Counter,
    received: Counter,
    delivered: Counter,
    sent: Counter,
    relayed: Counter,
    duplicates: Counter,
    withheld: Counter,
    unknown: Counter,
    dropped_full: Counter,
    dropped_disconnected: Counter,
    dropped_unencodable: Counter,
    dropped_refused: Counter,
    dropped_too_large: Counter,
    dropped_unread: Counter,
    bytes_received: Counter,
    bytes_sent: Counter,
    channel_sent: Counter,
    channel_received: Counter,
    channel_dropped: Counter,
    queued: Gauge,
    round_trip: Histogram,
    request_ok: Histogram,
    request_failed: Histogram,
    errors: Counter,
}

impl Meter {
    /// Registers the metrics of a node.
    pub(crate) fn new() -> Self {
        let peers = |direction: Direction| {
            gauge!("coalescent_peers", "direction" => direction.label();
                Count, "Peers that are connected")
        };
        let connected = |direction: Direction| {
            counter!("coalescent_peers_connected_total", "direction" => direction.label();
                Count, "Peers that have connected")
        };
        let dropped = |reason: DropReason| {
            counter!("coalescent_frames_dropped_total", "reason" => reason.label();
                Count, "Frames that were accepted for a peer and not written to it")
        };
        let request = |outcome: &'static str| {
            histogram!("coalescent_request_seconds", "outcome" => outcome;
                Seconds, "From a request of this node's to its reply, or to its failure")
        };
        Self {
            inbound: peers(Direction::Inbound),
            outbound: peers(Direction::Outbound),
            connected_inbound: connected(Direction::Inbound),
            connected_outbound: connected(Direction::Outbound),
            received: counter!("coalescent_frames_received_total";
                Count, "Frames that arrived"),
            delivered: counter!("coalescent_frames_delivered_total";
                Count, "Frames that came through the stack to the read side of the mesh"),
            sent: counter!("coalescent_frames_sent_total";
                Count, "Own frames, one for each peer they were written to"),
            relayed: counter!("coalescent_frames_relayed_total";
                Count, "Others' frames, one for each peer they were written to"),
            duplicates: counter!("coalescent_frames_duplicate_total";
                Count, "Frames that had arrived before"),
            withheld: counter!("coalescent_frames_withheld_total";
                Count, "Broadcasts that a verdict kept from being relayed"),
            unknown: counter!("coalescent_frames_unknown_total";
                Count, "Frames of a kind that is not known here, skipped"),
            dropped_full: dropped(DropReason::Full),
            dropped_disconnected: dropped(DropReason::Disconnected),
            dropped_unencodable: dropped(DropReason::Unencodable),
            dropped_refused: dropped(DropReason::Refused),
            dropped_too_large: dropped(DropReason::TooLarge),
            dropped_unread: dropped(DropReason::Unread),
            bytes_received: counter!("coalescent_received_bytes_total";
                Bytes, "Bytes read from peers after their handshake"),
            bytes_sent: counter!("coalescent_sent_bytes_total";
                Bytes, "Bytes written to peers after their handshake"),
            channel_sent: counter!("coalescent_channel_frames_sent_total";
                Count, "Frames of channels that were written to peers"),
            channel_received: counter!("coalescent_channel_frames_received_total";
                Count, "Frames of channels that arrived"),
            channel_dropped: counter!("coalescent_channel_frames_dropped_total";
                Count, "Frames of channels that were not written, or not handled"),
            queued: gauge!("coalescent_queued_bytes";
                Bytes, "What waits to be written to the peers, with what keeping it costs"),
            round_trip: histogram!("coalescent_round_trip_seconds";
                Seconds, "From a ping to its answer"),
            request_ok: request("ok"),
            request_failed: request("failed"),
            errors: counter!("coalescent_errors_total";
                Count, "Errors, told as events or left out there"),
        }
    }

    /// Returns the gauge of bytes queued in the outboxes of this node's peers.
    pub(crate) fn queued(&self) -> Gauge {
        self.queued.clone()
    }

    /// Records that a peer connected.
    pub(crate) fn connected(&self, direction: Direction) {
        match direction {
            Direction::Inbound => &self.connected_inbound,
            Direction::Outbound => &self.connected_outbound,
        }
        .increment(1);
        self.peers(direction).increment(1.0);
    }

    /// Records that a peer's connection was replaced by one of another direction.
    pub(crate) fn turned(&self, from: Direction, to: Direction) {
        self.peers(from).decrement(1.0);
        self.peers(to).increment(1.0);
    }

    /// Records that a peer disconnected.
    pub(crate) fn disconnected(&self, direction: Direction, reason: &DisconnectReason) {
        self.peers(direction).decrement(1.0);
        // Disconnects are rare enough to look the counter up each time.
        counter!("coalescent_peers_disconnected_total", "reason" => reason.label();
            Count, "Peers that have disconnected, or were")
        .increment(1);
    }

    fn peers(&self, direction: Direction) -> &Gauge {
        match direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
        }
    }

    /// Adds what a peer has counted since the last report.
    #[cfg(feature = "metrics")]
    pub(crate) fn add(&self, since: &Stats) {
        let pairs = [
            (&self.received, since.received),
            (&self.delivered, since.delivered),
            (&self.sent, since.sent),
            (&self.relayed, since.relayed),
            (&self.duplicates, since.duplicates),
            (&self.withheld, since.withheld),
            (&self.unknown, since.unknown),
            (&self.bytes_received, since.bytes_received),
            (&self.bytes_sent, since.bytes_sent),
            (&self.channel_sent, since.channel_sent),
            (&self.channel_received, since.channel_received),
            (&self.channel_dropped, since.channel_dropped),
        ];
        for (counter, by) in pairs {
            if by > 0 {
                counter.increment(by);
            }
        }
    }

    /// Records dropped frames.
    pub(crate) fn dropped(&self, reason: DropReason, frames: u64) {
        match reason {
            DropReason::Full => &self.dropped_full,
            DropReason::Disconnected => &self.dropped_disconnected,
            DropReason::Unencodable => &self.dropped_unencodable,
            DropReason::Refused => &self.dropped_refused,
            DropReason::TooLarge => &self.dropped_too_large,
            DropReason::Unread => &self.dropped_unread,
        }
        .increment(frames);
    }

    /// Records the round-trip time of a ping.
    pub(crate) fn round_trip(&self, time: Duration) {
        self.round_trip.record(time.as_secs_f64());
    }

    /// Records the end of one of this node's requests.
    pub(crate) fn request(&self, ok: bool, time: Duration) {
        if ok {
            &self.request_ok
        } else {
            &self.request_failed
        }
        .record(time.as_secs_f64());
    }

    /// Records an error, whether it is reported as an event or left out.
    pub(crate) fn error(&self) {
        self.errors.increment(1);
    }
}
