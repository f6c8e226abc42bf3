//! Events as lines of JSON.

use coalescent::event::Escaped;
use coalescent::{DisconnectReason, Event, Peer, Stats};
use serde::Serialize;

/// The JSON form of an event.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line {
    Listening {
        addr: String,
    },
    PeerConnected {
        peer: String,
        addr: Option<String>,
        direction: String,
        agent: Option<String>,
    },
    PeerDisconnected {
        peer: String,
        addr: Option<String>,
        reason: String,
    },
    Error {
        peer: Option<String>,
        error: String,
    },
    Dropped {
        peer: String,
        reason: String,
        frames: u64,
    },
    Discovered {
        addr: String,
        source: String,
    },
    Banned {
        peer: Option<String>,
        addr: Option<String>,
        reason: String,
        seconds: u64,
    },
    Missed {
        events: u64,
    },
    Stats {
        received: u64,
        delivered: u64,
        sent: u64,
        relayed: u64,
        duplicates: u64,
        dropped: u64,
        unknown: u64,
    },
}

/// Formats an event of the mesh; returns `None` for events that are not shown.
pub(crate) fn line(event: &Event) -> Option<String> {
    Some(json(&match event {
        Event::Listening { addr } => Line::Listening {
            addr: addr.to_string(),
        },
        Event::PeerConnected { peer } => Line::PeerConnected {
            peer: id(peer),
            addr: addr(peer),
            direction: peer.direction().to_string(),
            agent: peer.agent().map(|agent| Escaped(agent).to_string()),
        },
        Event::PeerDisconnected { peer, reason } => Line::PeerDisconnected {
            peer: id(peer),
            addr: addr(peer),
            reason: why(reason),
        },
        Event::Error { peer, error } => Line::Error {
            peer: peer.as_ref().map(id),
            error: error.report().to_string(),
        },
        Event::Dropped {
            peer,
            reason,
            frames,
        } => Line::Dropped {
            peer: id(peer),
            reason: reason.to_string(),
            frames: *frames,
        },
        Event::Discovered { addr, source } => Line::Discovered {
            addr: addr.to_string(),
            source: source.to_string(),
        },
        Event::Banned {
            peer,
            addr,
            reason,
            duration,
        } => Line::Banned {
            peer: peer.map(|peer| peer.to_string()),
            addr: addr.map(|addr| addr.to_string()),
            reason: reason.clone(),
            seconds: duration.as_secs(),
        },
        Event::Missed(events) => Line::Missed { events: *events },
        _ => return None,
    }))
}

/// Formats an error of this program itself.
pub(crate) fn error(text: &str) -> String {
    json(&Line::Error {
        peer: None,
        error: text.to_owned(),
    })
}

/// Formats the number of events that were left out.
pub(crate) fn missed(events: u64) -> String {
    json(&Line::Missed { events })
}

/// Formats the counters, which are the last event.
pub(crate) fn stats(stats: &Stats) -> String {
    json(&Line::Stats {
        received: stats.received,
        delivered: stats.delivered,
        sent: stats.sent,
        relayed: stats.relayed,
        duplicates: stats.duplicates,
        dropped: stats.dropped,
        unknown: stats.unknown,
    })
}

fn json(line: &Line) -> String {
    // Strings and numbers can always be serialized.
    serde_json::to_string(line).unwrap_or_default()
}

fn id(peer: &Peer) -> String {
    peer.id().to_string()
}

fn addr(peer: &Peer) -> Option<String> {
    peer.addr().map(|addr| addr.to_string())
}

fn why(reason: &DisconnectReason) -> String {
    let text = reason.to_string();
    match reason {
        // This reason consists mostly of text from the peer.
        DisconnectReason::Bye(_) => text.chars().take(Escaped::MAX).collect(),
        _ => text,
    }
}
