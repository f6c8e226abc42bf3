//! What one stream has to send, a frame at a time.

use std::sync::Arc;

use bytes::Bytes;

use super::frame::{HEAD, StreamFrame};
use super::state::{SEND_BUFFER, Sending, Stream, Wakes};

impl Stream {
    /// Returns whether [`next_frame`](Self::next_frame) has one.
    pub(super) fn has_frame(&self) -> bool {
        self.opening.is_some()
            || matches!(self.outgoing, Sending::Resetting(_) | Sending::Ending)
            || !self.waiting.is_empty()
            || self.owes_credit()
            || self.owes_stop()
    }

    fn owes_credit(&self) -> bool {
        if self.undecided || matches!(self.outgoing, Sending::Resetting(_) | Sending::Reset) {
            return false;
        }
        let least = (self.window / 2).max(1);
        let useful = self.ungranted >= least && self.incoming.is_none() && !self.discards();
        self.accepting || useful
    }

    fn owes_stop(&self) -> bool {
        let ended = matches!(self.outgoing, Sending::Ended);
        ended && self.stopping.is_some() && self.incoming.is_none()
    }

    /// Takes the next frame to be sent.
    pub(super) fn next_frame(&mut self, wakes: &mut Wakes) -> Option<Bytes> {
        let stream = self.id;
        if let Some(name) = self.opening.take() {
            let credit = self.window;
            let open = StreamFrame::Open {
                stream,
                credit,
                name,
            };
            return Some(open.encode());
        }
        if let Sending::Resetting(reason) = &self.outgoing {
            let reason = reason.as_ref().to_owned();
            self.outgoing = Sending::Reset;
            return Some(StreamFrame::Reset { stream, reason }.encode());
        }
        if self.owes_credit() {
            self.accepting = false;
            let bytes = std::mem::take(&mut self.ungranted);
            self.granted = self.granted.saturating_add(bytes);
            return Some(StreamFrame::Credit { stream, bytes }.encode());
        }
        if let Some(data) = self.waiting.pop_front() {
            let sent = data.len().saturating_sub(HEAD);
            self.waiting_len = self.waiting_len.saturating_sub(sent);
            if self.waiting_len <= SEND_BUFFER / 2 {
                wakes.extend(self.writer.take());
            }
            return Some(data.freeze());
        }
        if let Sending::Ending = self.outgoing {
            self.outgoing = Sending::Ended;
            wakes.extend(self.writer.take());
            return Some(StreamFrame::End { stream }.encode());
        }
        if self.owes_stop() {
            let reason = self.stopping.take()?.as_ref().to_owned();
            self.reset_here.get_or_insert_with(|| Arc::from(""));
            return Some(StreamFrame::Reset { stream, reason }.encode());
        }
        None
    }
}
