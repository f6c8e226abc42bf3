//! Dropped frames of one peer, and its part in its departure.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::Instant;

use super::{Peer, lock};
use crate::node::event::Event;
use crate::outbox::Lost;
use crate::reason::{DisconnectReason, DropReason};
use crate::stats::Stats;

/// Drops are reported at most this often for a peer.
const REPORT_EVERY: Duration = Duration::from_secs(1);

impl Peer {
    /// Counts `frames` as dropped, and reports them unless an event was told a moment ago.
    pub(crate) fn dropped(&self, reason: DropReason, frames: u64) {
        if frames == 0 {
            return;
        }
        let now = Instant::now();
        let mut reported = lock(&self.0.reported);
        self.0.counters.add_dropped(frames);
        self.0.node.meter().dropped(reason, frames);
        self.0.unreported.fetch_add(frames, Relaxed);
        let handed_over = reported.handed_over;
        let lately = reported.last.is_some_and(|last| now - last < REPORT_EVERY);
        if self.is_connected() && lately {
            return;
        }
        reported.last = Some(now);
        drop(reported);
        if handed_over {
            // A task may find only now that it waited in vain for room.
            self.0.node.dropped_late(frames);
        }
        self.report_dropped(reason);
    }

    /// Counts frames that were queued and will not be written.
    pub(crate) fn lost(&self, lost: Lost) {
        self.dropped(DropReason::Disconnected, lost.frames);
        self.channel_dropped(lost.channel);
    }

    /// Counts frames of channels as dropped.
    pub(crate) fn channel_dropped(&self, frames: u64) {
        if frames == 0 {
            return;
        }
        let reported = lock(&self.0.reported);
        self.0.counters.add_channel_dropped(frames);
        let handed_over = reported.handed_over;
        drop(reported);
        if handed_over {
            self.0.node.channel_dropped_late(frames);
        }
    }

    /// Reports the dropped frames that no event has told of yet.
    pub(crate) fn report_dropped(&self, reason: DropReason) {
        let frames = self.0.unreported.swap(0, Relaxed);
        if frames > 0 {
            self.0.node.emit(Event::Dropped {
                peer: self.clone(),
                reason,
                frames,
            });
        }
    }

    /// In step 2 of the [departure](crate::node::departure): the peer is no longer connected. Drops
    /// what is left in its outbox, and fails the requests that wait for a reply.
    pub(in crate::node) fn close(&self, reason: &DisconnectReason) {
        let _ = self.0.gone.set(reason.clone());
        self.0.outbox.close();
        let lost = self.0.outbox.clear();
        // Behind `gone`, which requests that are opened from now on look at.
        self.0.requests.fail_all();
        self.0.left.notify_waiters();
        self.channels_closed();
        let handed = self.handed_closed();
        self.lost(lost);
        self.dropped(DropReason::Disconnected, handed);
        self.report_dropped(DropReason::Disconnected);
    }

    /// In step 2 of the [departure](crate::node::departure): returns the counters for the node to
    /// keep. Frames dropped from now on are counted by the node.
    pub(in crate::node) fn hand_over_counters(&self) -> Stats {
        let mut reported = lock(&self.0.reported);
        reported.handed_over = true;
        self.stats()
    }

    /// Step 3 of the [departure](crate::node::departure): drops the values that were kept with this
    /// peer.
    pub(crate) fn end_departure(&self) {
        // Not under the lock: the values may own this peer.
        let kept = std::mem::take(&mut *lock(&self.0.extensions));
        drop(kept);
    }
}
