//! Reporting: events to the application, lines to the log.
//!
//! A stranger can cause errors, and peers that connect and disconnect, as fast as it can connect.
//! So log lines and error events are limited, per address and in total; those left out are reported
//! as a number. Events of peers that connect and disconnect are never left out, because
//! applications count by them.

use std::any::Any;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::time::{Instant, sleep_until};
use tracing::{Level, enabled};

use super::{Node, Peers};
use crate::error::Error;
use crate::node::event::{Event, Events};
use crate::node::peer::{Peer, PeerId};
use crate::node::throttle::{Source, Throttle};
use crate::reason::DisconnectReason;
use crate::transport::Whence;

impl Peers {
    /// Reports an error of this node, as an [event](Event::Error) and in the log. Plugins use it
    /// for what the user should know.
    pub fn report(&self, error: Error) {
        self.node().error(None, error);
    }
}

impl Node {
    /// Returns whether a line about `source` is to be logged. If others were left out before it,
    /// logs their number first.
    fn may_log(&self, source: Source) -> bool {
        match self.reports.decide(&self.reports.lines, source) {
            Some(left_out) => {
                log_left_out(left_out);
                true
            }
            None => false,
        }
    }

    /// Emits an event that is no error, and logs it.
    pub(crate) fn emit(&self, event: Event) {
        match &event {
            Event::Listening { addr } => tracing::info!(%addr, "listening"),
            Event::PeerConnected { peer }
                if enabled!(Level::INFO) && self.may_log(Source::of(peer)) =>
            {
                let origin = peer.origin();
                tracing::info!(peer = %peer.id(), addr = origin.shown().map(tracing::field::display), direction = %origin.direction, "peer connected");
            }
            Event::PeerDisconnected { peer, reason }
                if enabled!(Level::INFO) && self.may_log(Source::of(peer)) =>
            {
                tracing::info!(peer = %peer.id(), addr = peer.origin().shown().map(tracing::field::display), %reason, "peer disconnected");
            }
            Event::Banned {
                peer,
                addr,
                reason,
                duration,
            } if enabled!(Level::WARN) && self.may_log(Source::banned(peer, addr)) => {
                tracing::warn!(peer = peer.as_ref().map(tracing::field::display), addr = addr.map(tracing::field::display), %reason, seconds = duration.as_secs(), "banned");
            }
            Event::Dropped {
                peer,
                reason,
                frames,
            } if enabled!(Level::WARN) && self.may_log(Source::of(peer)) => {
                tracing::warn!(peer = %peer.id(), %reason, frames, "frames dropped");
            }
            _ => {}
        }
        self.events.emit(event);
    }

    /// Reports an error about `peer`, or about this node itself.
    pub(crate) fn error(&self, peer: Option<&Peer>, error: Error) {
        self.tell_error(peer.map_or(Source::Own, Source::of), peer, error);
    }

    /// Reports an error about a stranger that is no peer.
    pub(crate) fn error_at(&self, whence: &Whence, error: Error) {
        self.tell_error(Source::stranger(whence), None, error);
    }

    fn tell_error(&self, source: Source, peer: Option<&Peer>, error: Error) {
        self.meter().error();
        if enabled!(Level::WARN) && self.may_log(source) {
            tracing::warn!(peer = peer.map(|peer| tracing::field::display(peer.id())), error = %error.report(), "error");
        }
        self.tell_error_event(source, peer, error);
    }

    fn tell_error_event(&self, source: Source, peer: Option<&Peer>, error: Error) {
        let Some(left_out) = self.reports.decide(&self.reports.errors, source) else {
            return;
        };
        self.emit_left_out(left_out);
        self.events.emit(Event::Error {
            peer: peer.cloned(),
            error: Arc::new(error),
        });
    }

    /// Calls `callback` with each of these events, in a task of its own that survives its panics.
    pub(crate) fn call_back(
        self: &Arc<Self>,
        mut events: Events,
        mut callback: impl FnMut(Event) + Send + 'static,
    ) {
        let node = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                // Two callbacks that panic about each other's panics would never stop.
                if matches!(&event, Event::Error { error, .. } if error.is_callback()) {
                    continue;
                }
                let called = catch_unwind(AssertUnwindSafe(|| callback(event)));
                if let (Err(panic), Some(node)) = (called, node.upgrade()) {
                    node.callback_panicked(&*panic);
                }
            }
        });
    }

    /// Reports that a callback for events has panicked.
    fn callback_panicked(&self, panic: &(dyn Any + Send)) {
        self.meter().error();
        let error = Error::callback(panic);
        if enabled!(Level::ERROR) && self.may_log(Source::Own) {
            tracing::error!(error = %error.report(), "error");
        }
        self.tell_error_event(Source::Own, None, error);
    }

    /// Logs, at debug level, that a stranger closed its connection before it sent anything.
    pub(crate) fn went_silently(&self, whence: &Whence) {
        if enabled!(Level::DEBUG) && self.may_log(Source::stranger(whence)) {
            tracing::debug!(addr = %whence, "a connection was closed before anything came over it");
        }
    }

    /// Logs, at debug level, that a peer begins to depart.
    pub(super) fn log_leaving(&self, peer: &Peer, reason: &DisconnectReason) {
        if matches!(reason, DisconnectReason::MutualWait) {
            // The application can help it.
            if enabled!(Level::WARN) && self.may_log(Source::of(peer)) {
                tracing::warn!(peer = %peer.id(), %reason, "leaving");
            }
            return;
        }
        if enabled!(Level::DEBUG) && self.may_log(Source::of(peer)) {
            tracing::debug!(peer = %peer.id(), %reason, "leaving");
        }
    }

    /// Logs, at debug level, that somebody was refused who is banned.
    pub(crate) fn refused_banned(&self, whence: &Whence) {
        if enabled!(Level::DEBUG) && self.may_log(Source::stranger(whence)) {
            tracing::debug!(addr = %whence, "a connection was refused, since it is banned");
        }
    }

    fn emit_left_out(&self, errors: u64) {
        if errors > 0 {
            self.events.emit(Event::Error {
                peer: None,
                error: Arc::new(Error::left_out(errors)),
            });
        }
    }

    fn tell_left_out(&self, (lines, errors): (u64, u64)) {
        log_left_out(lines);
        self.emit_left_out(errors);
    }

    /// Reports how many lines and events were left out, once for each minute in which some were.
    /// Never returns.
    pub(crate) async fn keep_telling_left_out(self: Arc<Self>) {
        loop {
            let Some(at) = self.reports.ends() else {
                self.reports.left_out.notified().await;
                continue;
            };
            sleep_until(at).await;
            let now = Instant::now();
            self.tell_left_out(self.reports.take(|throttle| throttle.expire(now)));
        }
    }

    /// Reports how many were left out until now: the node ends.
    pub(super) fn finish_reports(&self) {
        self.tell_left_out(self.reports.take(Throttle::take_left_out));
    }
}

impl Source {
    fn banned(peer: &Option<PeerId>, addr: &Option<SocketAddr>) -> Self {
        match (addr, peer) {
            (None, Some(PeerId::Key(key))) => Self::Key(*key),
            (addr, _) => Self::at(addr.map(|addr| addr.ip())),
        }
    }

    fn stranger(whence: &Whence) -> Self {
        match (whence.addr, whence.key) {
            (None, Some(key)) => Self::Key(key),
            (addr, _) => Self::at(addr.map(|addr| addr.ip())),
        }
    }

    fn of(peer: &Peer) -> Self {
        match (peer.addr(), peer.id()) {
            (None, PeerId::Key(key)) => Self::Key(*key),
            (addr, _) => Self::at(addr.map(|addr| addr.ip())),
        }
    }
}

fn log_left_out(lines: u64) {
    if lines > 0 {
        // Outside of the current span, which may be that of an unrelated peer.
        tracing::warn!(parent: None, "{lines} more lines about peers were left out");
    }
}
