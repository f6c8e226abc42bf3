//! Decodes frames: answers control frames, and gives the others to the stack driver.

use std::ops::ControlFlow;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncRead;
use tokio::time::Instant;

use super::{Activity, Busy, Reader, Stream, Undecoded};
use crate::connection::stack_driver::StackDriver;
use crate::error::report;
use crate::node::as_token;
use crate::node::peer::HandedFrame;
use crate::reason::DisconnectReason;
use crate::stack::PeerService;
use crate::wire::{Block, Head, Kind, WireError, decode_reason};

/// What a block holds beside control frames.
#[derive(Default)]
struct Found {
    /// Frames for the stack that are no requests.
    data: u64,
    requests: u64,
    replies: u64,
    /// What handlers of channels have handed in, by the index of the channel's frame.
    handed: Vec<(usize, HandedFrame)>,
}

impl<R, S> Reader<R, S>
where
    R: AsyncRead + Unpin,
    S: PeerService,
{
    /// Decodes the bytes that were read by `now`, up to the limit of reading ahead. Returns whether
    /// a frame was completed.
    pub(super) fn decode(&mut self, now: Instant) -> bool {
        let mut completed = false;
        self.undecoded = Undecoded::Nothing;
        let last = matches!(self.stream, Stream::Ended(_));
        while !self.stream.is_over() {
            let Busy { buffer, driver, .. } = self.activity.busy(&self.peer);
            let more = last || self.codec.may_hold_frames(buffer.bytes());
            if completed && !more {
                break;
            }
            if completed && driver.ahead(self.read_ahead) >= self.read_ahead {
                self.undecoded = Undecoded::Frames;
                break;
            }
            match self.decode_block() {
                Ok(Some(block)) => {
                    completed = true;
                    self.take(block, now);
                }
                Ok(None) => break,
                Err(error) => {
                    self.fail(&error, now);
                    break;
                }
            }
        }
        completed
    }

    /// Decodes the next frames. Returns `None` if the buffer holds no whole frame.
    fn decode_block(&mut self) -> Result<Option<Block>, WireError> {
        let last = matches!(self.stream, Stream::Ended(_));
        // Without a clean end, the last bytes are a part of a frame whose rest is lost.
        let clean = matches!(self.stream, Stream::Ended(DisconnectReason::Closed));
        let Busy { buffer, driver, .. } = self.activity.busy(&self.peer);
        let mut block = driver.take_block();
        let found = if clean {
            self.codec.finish(buffer.bytes_mut(), &mut block)?
        } else {
            self.codec.next_block(buffer.bytes_mut(), &mut block)?
        };
        if found {
            return Ok(Some(block));
        }
        driver.put_block(block);
        if last && !buffer.bytes().is_empty() {
            buffer.fall_idle();
        }
        Ok(None)
    }

    /// Ends the stream, since the peer broke the rules of the wire.
    fn fail(&mut self, error: &WireError, now: Instant) {
        // An error of the socket stays the reason.
        if !matches!(self.stream, Stream::Ended(DisconnectReason::Io(_))) {
            if self.is_fault(error) {
                self.peer.spend_all(now);
            }
            self.stream = Stream::Ended(DisconnectReason::Protocol(report(error).to_string()));
        }
        self.activity.busy(&self.peer).buffer.fall_idle();
    }

    /// Returns whether the peer need not have sent what this error is about: bytes that no version
    /// of the wire knows, or a frame larger than it was told that this node takes.
    ///
    /// On wires without a handshake, and for peers that do not know of such limits, a relay may
    /// have passed on in good faith what is too large here. A stream that ends in the middle of a
    /// frame is that of a peer that was killed.
    fn is_fault(&self, error: &WireError) -> bool {
        let knows_limits = self.peer.max_payload().is_some();
        self.peer.wire().has_handshake()
            && (error.is_malformed() || (error.is_too_large() && knows_limits))
    }

    /// Returns the length of the frame whose first bytes are in the buffer, as far as it is known,
    /// or `None` if there is no such frame.
    pub(in crate::connection) fn partial(&self) -> Option<usize> {
        match &self.activity {
            Activity::Idle(_) => None,
            Activity::Busy(busy) => {
                let begun = busy.buffer.bytes();
                (!begun.is_empty()).then(|| begun.len() + self.codec.missing(begun))
            }
        }
    }

    /// Answers the control frames of a block, and gives the block to the stack driver.
    pub(super) fn take(&mut self, mut block: Block, now: Instant) {
        if block.broadcasts && !self.lets_in() {
            self.activity.busy(&self.peer).driver.put_block(block);
            return;
        }
        let found = if block.broadcasts {
            Found {
                data: block.heads.len() as u64,
                ..Found::default()
            }
        } else {
            self.take_heads(&mut block, now)
        };
        if !found.handed.is_empty() {
            self.take_apart(block, found, now);
            return;
        }
        let Busy { buffer, driver, .. } = self.activity.busy(&self.peer);
        let frames = found.data + found.requests + found.replies;
        if frames == 0 {
            driver.put_block(block);
            return;
        }
        self.peer.counters().add_received(frames);
        let last = block.heads.last().map_or(0, |(_, head)| head.wire_len());
        buffer.took(&block.bytes, last);
        if found.data + found.requests == 0 {
            // Replies have been given to the tasks that wait for them, and must not count among
            // what waits: reading would stop, and handlers that wait for further ones never end.
            block.clear();
            driver.put_block(block);
            self.peer.tell_meter();
            return;
        }
        driver.add(block, found.data == 0, buffer.whole(), now);
    }

    /// Gives a block to the stack driver in parts, with what was handed in between them.
    fn take_apart(&mut self, mut block: Block, found: Found, now: Instant) {
        let Busy { buffer, driver, .. } = self.activity.busy(&self.peer);
        let handed = found.handed.len() as u64;
        let frames = found.data + found.requests + found.replies;
        self.peer.counters().add_received(frames + handed);
        if frames > 0 {
            let last = block.heads.last().map_or(0, |(_, head)| head.wire_len());
            buffer.took(&block.bytes, last);
        }
        let add = |driver: &mut StackDriver<S>, heads: &[(usize, Head)]| {
            let mut payloads = heads.iter().filter(|(_, head)| head.kind.is_payload());
            let Some((_, first)) = payloads.next() else {
                return;
            };
            let is_request = |head: &Head| matches!(head.kind, Kind::Request { .. });
            let asks = is_request(first) && payloads.all(|(_, head)| is_request(head));
            let part = Block {
                bytes: block.bytes.clone(),
                heads: heads.to_vec(),
                broadcasts: false,
            };
            driver.add(part, asks, buffer.whole(), now);
        };
        let mut from = 0;
        for (index, frame) in found.handed {
            add(driver, block.heads.get(from..index).unwrap_or_default());
            from = index;
            driver.add_handed(frame, now);
        }
        add(driver, block.heads.get(from..).unwrap_or_default());
        block.clear();
        driver.put_block(block);
    }

    /// Gives the stack driver what was handed in, as far as it may be read ahead.
    pub(super) fn take_handed(&mut self, now: Instant) {
        let Busy { driver, .. } = self.activity.busy(&self.peer);
        while driver.ahead(self.read_ahead) < self.read_ahead
            && let Some(frame) = self.peer.take_handed()
        {
            self.peer.counters().add_received(1);
            driver.add_handed(frame, now);
        }
    }

    /// Makes a peer of a contact that has sent a frame for the stack, before the frame is handled.
    /// Returns false if this cannot be, which ends the stream.
    #[inline]
    fn lets_in(&mut self) -> bool {
        self.peer.stage().has_begun() || self.promote()
    }

    #[cold]
    fn promote(&mut self) -> bool {
        if self.peer.is_contact()
            && let Err(reason) = self.peer.promoted_by_frame(&self.handle)
        {
            self.stream = Stream::Ended(reason);
            return false;
        }
        self.welcome();
        true
    }

    /// Handles frames that are not for the stack, up to one that ends the stream: heads behind it
    /// are removed. Counts the frames that are no control frames.
    fn take_heads(&mut self, block: &mut Block, now: Instant) -> Found {
        let mut found = Found::default();
        for index in 0..block.heads.len() {
            let Some(&(offset, head)) = block.heads.get(index) else {
                break;
            };
            let is_for_stack = matches!(
                head.kind,
                Kind::Data | Kind::Broadcast { .. } | Kind::Plain | Kind::Request { .. }
            );
            if is_for_stack && !self.lets_in() {
                block.heads.truncate(index);
                break;
            }
            match head.kind {
                Kind::Data | Kind::Broadcast { .. } | Kind::Plain => found.data += 1,
                Kind::Request { .. } => found.requests += 1,
                Kind::Reply { id, status } => {
                    found.replies += 1;
                    let payload = block.payload(offset, &head);
                    self.peer.requests().complete(id, status, payload);
                }
                Kind::Cancel { id } => {
                    let driver = &mut self.activity.busy(&self.peer).driver;
                    driver.cancel(id, found.requests > 0);
                }
                Kind::Nothing => {}
                _ => {
                    let ends = self.take_control(&head, &block.payload(offset, &head), now);
                    while self.peer.has_handed()
                        && let Some(frame) = self.peer.take_handed()
                    {
                        found.handed.push((index, frame));
                    }
                    if let ControlFlow::Break(reason) = ends {
                        if matches!(reason, DisconnectReason::Protocol(_)) {
                            self.peer.spend_all(now);
                        }
                        self.stream = Stream::Ended(reason);
                        block.heads.truncate(index + 1);
                        break;
                    }
                }
            }
        }
        found
    }

    /// Handles a control frame. Breaks if it ends the stream.
    fn take_control(
        &mut self,
        head: &Head,
        payload: &Bytes,
        now: Instant,
    ) -> ControlFlow<DisconnectReason> {
        match head.kind {
            Kind::Ping => self.answer_ping(payload),
            Kind::Pong => {
                if let Some(after) = self.control.answered(payload, now) {
                    self.peer.answered(after);
                }
                ControlFlow::Continue(())
            }
            Kind::Channel { index } => {
                self.peer.take_channel_frame(index, payload);
                ControlFlow::Continue(())
            }
            Kind::Bye => ControlFlow::Break(DisconnectReason::Bye(decode_reason(payload))),
            Kind::Hello => {
                ControlFlow::Break(DisconnectReason::Protocol("a second HELLO".to_owned()))
            }
            _ => {
                self.peer.counters().add_unknown();
                ControlFlow::Continue(())
            }
        }
    }

    fn answer_ping(&mut self, payload: &Bytes) -> ControlFlow<DisconnectReason> {
        let mut pong = BytesMut::new();
        let encoded = self.codec.encode(Kind::Pong, 0, payload, &mut pong);
        let answered = encoded.is_ok() && self.control.push(&pong);
        if let Some(token) = as_token(payload) {
            self.peer.node().heard(&self.peer, &self.handle, token);
        }
        if answered {
            ControlFlow::Continue(())
        } else {
            let reason = "pings faster than answers are read".to_owned();
            ControlFlow::Break(DisconnectReason::Protocol(reason))
        }
    }
}
