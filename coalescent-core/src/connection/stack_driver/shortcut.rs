//! Blocks of broadcasts that pass a trivial stack without a call for each frame.

use std::any::TypeId;

use super::StackDriver;
use super::backlog::Batch;
use crate::frame::{Flow, passes};
use crate::node::peer::Peer;
use crate::stack::{Inbox, PeerService};

/// What a stack without layers of its own does with each broadcast before the inbox takes it.
///
/// Set if the stack is known to ignore or merely relay broadcasts, so it need not be called for
/// them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shortcut {
    /// Nothing: the stack is the inbox itself.
    Nothing,
    /// It relays every broadcast.
    Relay(Flow),
}

impl Shortcut {
    /// Returns the shortcut for the stack `S`, if there is one.
    pub(super) fn of<S: 'static>(peer: &Peer) -> Option<Self> {
        let stack = TypeId::of::<S>();
        match peer.node().hooks().relays_all {
            Some((relay, flow)) if relay == stack => Some(Self::Relay(flow)),
            _ => (stack == TypeId::of::<Inbox>()).then_some(Self::Nothing),
        }
    }
}

impl<S: PeerService> StackDriver<S> {
    /// Returns the shortcut for the first batch. There is none once a part of the batch was
    /// handled, or if the batch holds anything but broadcasts.
    pub(super) fn shortcut(&self) -> Option<Shortcut> {
        self.shortcut
            .filter(|_| self.frames.backlog.is_untouched_broadcasts())
    }

    /// Gives the whole first batch the results that calls with each of its frames would have.
    pub(super) fn take_shortcut(&mut self, shortcut: Shortcut) {
        let frames = &mut self.frames;
        let Some((batch, next)) = frames.backlog.first() else {
            return;
        };
        let Batch {
            block, read_batch, ..
        } = batch;
        if let Shortcut::Relay(flow) = shortcut {
            let relays = &mut frames.results.relays;
            for (index, (offset, head)) in block.heads.iter().enumerate() {
                if passes(head.kind, head.ttl, false) && !relays.extend(index, *offset, head, flow)
                {
                    let decision = (flow, None);
                    relays.add(
                        &frames.in_flight,
                        block,
                        index,
                        decision,
                        read_batch.buffer_len,
                    );
                }
            }
        }
        let count = block.heads.len();
        *next = count;
        self.base.seq += count as u64;
        frames.results.take_plain(&frames.in_flight, count);
    }
}
