//! One stream: a decision without socket or clock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Poll, Waker};

use bytes::{Bytes, BytesMut};

use super::error::StreamError;
use super::frame::{HEAD, StreamId, data_head};
use super::received::Received;

/// The most bytes of a stream that wait here to be sent: 128 KiB. Then writing waits.
pub const SEND_BUFFER: usize = 128 * 1024;

/// The greatest credit that a side may have for a stream: 16 MiB.
pub const MAX_CREDIT: u32 = 16 * 1024 * 1024;

/// How a direction has ended, or a stream been stopped.
#[derive(Clone, Debug)]
pub(super) enum Ending {
    End,
    Reset(Arc<str>),
}

/// What this side has said and will say of the end of its direction.
#[derive(Clone, Debug)]
pub(super) enum Sending {
    Open,
    /// Shut down: END follows what waits.
    Ending,
    /// END was sent.
    Ended,
    /// RESET is the next frame.
    Resetting(Arc<str>),
    /// RESET was sent.
    Reset,
}

/// A stream, as one side sees it.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: StreamId,
    /// The name, until OPEN was sent.
    pub(super) opening: Option<String>,
    /// Whether the other side has yet to accept.
    asked: bool,
    /// Whether this side has yet to decide if it accepts.
    pub(super) undecided: bool,
    /// Whether this side has decided to accept, and not said so.
    pub(super) accepting: bool,
    /// How many bytes this side wants to be on their way to it at most.
    pub(super) window: u32,
    /// How many bytes the other side may still send.
    pub(super) granted: u32,
    /// How many bytes it may send in addition, and has not been told of.
    pub(super) ungranted: u32,
    received: Received,
    /// How the direction of the other side has ended.
    pub(super) incoming: Option<Ending>,
    /// The reason of the other side's RESET, whether or not its direction had ended before.
    stopped: Option<Arc<str>>,
    /// The DATA frames that wait to be sent.
    pub(super) waiting: VecDeque<BytesMut>,
    /// The bytes in them, without their heads.
    pub(super) waiting_len: usize,
    /// How many bytes this side may still send, apart from those that wait.
    credit: u32,
    pub(super) outgoing: Sending,
    /// The reason for a RESET after END: nobody here reads any more.
    pub(super) stopping: Option<Arc<str>>,
    /// Why this side has reset the stream.
    pub(super) reset_here: Option<Arc<str>>,
    /// Whether the application has a handle to it.
    pub(super) held: bool,
    reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    /// Whether it stands in the list of those that have something to send.
    pub(super) listed: bool,
}

/// What was wrong with a frame, which is a fault of its sender.
pub(super) type Fault = &'static str;

/// Tasks to be woken when the lock is released.
pub(super) type Wakes = Vec<Waker>;

impl Stream {
    fn new(id: StreamId, window: u32) -> Self {
        Self {
            id,
            opening: None,
            asked: false,
            undecided: false,
            accepting: false,
            window,
            granted: 0,
            ungranted: 0,
            received: Received::default(),
            incoming: None,
            stopped: None,
            waiting: VecDeque::new(),
            waiting_len: 0,
            credit: 0,
            outgoing: Sending::Open,
            stopping: None,
            reset_here: None,
            held: true,
            reader: None,
            writer: None,
            listed: false,
        }
    }

    /// Returns a stream of this side, which is to be opened.
    pub(super) fn ours(id: StreamId, window: u32, name: &str) -> Self {
        Self {
            opening: Some(name.to_owned()),
            asked: true,
            granted: window,
            ..Self::new(id, window)
        }
    }

    /// Returns a stream that the other side has opened. It is accepted by the first credit.
    pub(super) fn theirs(id: StreamId, window: u32, credit: u32) -> Self {
        Self {
            credit,
            ungranted: window,
            undecided: true,
            ..Self::new(id, window)
        }
    }

    // What is received.

    pub(super) fn take_data(&mut self, bytes: Bytes, wakes: &mut Wakes) -> Result<(), Fault> {
        if self.incoming.is_some() {
            return Err("bytes behind the end of a stream");
        }
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let Some(granted) = self.granted.checked_sub(len) else {
            // Whoever reads must not take what has arrived for all there is.
            self.reset("the other side sent more than it had credit for", wakes);
            return Err("more bytes than there was credit for");
        };
        self.granted = granted;
        if self.discards() {
            return Ok(());
        }
        self.received.push(bytes);
        wakes.extend(self.reader.take());
        Ok(())
    }

    pub(super) fn take_end(&mut self, wakes: &mut Wakes) -> Result<(), Fault> {
        if self.incoming.is_some() {
            return Err("a second end of a stream");
        }
        self.incoming = Some(Ending::End);
        wakes.extend(self.reader.take());
        Ok(())
    }

    pub(super) fn take_reset(&mut self, reason: String, wakes: &mut Wakes) {
        if self.stopped.is_some() {
            return;
        }
        let reason: Arc<str> = reason.into();
        self.stopped = Some(Arc::clone(&reason));
        self.incoming.get_or_insert(Ending::Reset(reason));
        if matches!(self.outgoing, Sending::Open | Sending::Ending) {
            self.clear_waiting();
            self.outgoing = Sending::Resetting(Arc::from(""));
        }
        self.wake_both(wakes);
    }

    pub(super) fn take_credit(&mut self, bytes: u32, wakes: &mut Wakes) -> Result<(), Fault> {
        if self.stopped.is_some() {
            return Err("credit behind a reset");
        }
        self.asked = false;
        let waiting = u32::try_from(self.waiting_len).unwrap_or(u32::MAX);
        let credit = self.credit.saturating_add(bytes);
        if credit.saturating_add(waiting) > MAX_CREDIT {
            return Err("more credit than a stream may have");
        }
        self.credit = credit;
        wakes.extend(self.writer.take());
        Ok(())
    }

    // What the application does.

    /// Accepts a stream that the other side has opened.
    pub(super) fn accept(&mut self) {
        self.undecided = false;
        self.accepting = true;
    }

    /// Ready once the other side has accepted the stream.
    pub(super) fn poll_accepted(&mut self, waker: &Waker) -> Poll<Result<(), StreamError>> {
        if self.asked {
            if let Some(reason) = &self.stopped {
                return Poll::Ready(Err(StreamError::refused(reason)));
            }
            self.writer = Some(waker.clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// Lends the next bytes; none if the direction has ended.
    pub(super) fn poll_front(&mut self, waker: &Waker) -> Poll<Result<&[u8], StreamError>> {
        if self.received.is_empty() {
            if let Some(reason) = &self.reset_here {
                return Poll::Ready(Err(StreamError::reset_here(reason)));
            }
            match &self.incoming {
                Some(Ending::End) => {}
                Some(Ending::Reset(reason)) => {
                    return Poll::Ready(Err(StreamError::reset(reason)));
                }
                None => {
                    self.reader = Some(waker.clone());
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(self.received.front()))
    }

    /// Removes bytes that were read.
    pub(super) fn consume(&mut self, count: usize) {
        let count = count.min(self.received.front().len());
        self.received.advance(count);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.ungranted = self.ungranted.saturating_add(count);
    }

    /// Takes bytes to be sent, in DATA frames of at most `chunk` bytes. Returns how many it took.
    pub(super) fn poll_write(
        &mut self,
        bytes: &[u8],
        chunk: usize,
        waker: &Waker,
    ) -> Poll<Result<usize, StreamError>> {
        self.check_writable()?;
        let credit = usize::try_from(self.credit).unwrap_or(usize::MAX);
        let room = SEND_BUFFER.saturating_sub(self.waiting_len).min(credit);
        if room == 0 && !bytes.is_empty() {
            self.writer = Some(waker.clone());
            return Poll::Pending;
        }
        let bytes = bytes.get(..bytes.len().min(room)).unwrap_or_default();
        let mut rest = bytes;
        while !rest.is_empty() {
            let full = HEAD.saturating_add(chunk);
            let last = match self.waiting.back_mut().filter(|last| last.len() < full) {
                Some(last) => last,
                None => {
                    let frame = data_head(self.id, rest.len().min(chunk));
                    self.waiting.push_back(frame);
                    match self.waiting.back_mut() {
                        Some(last) => last,
                        None => break,
                    }
                }
            };
            let (some, others) = rest.split_at(rest.len().min(full.saturating_sub(last.len())));
            last.extend_from_slice(some);
            rest = others;
        }
        self.waiting_len = self.waiting_len.saturating_add(bytes.len());
        let taken = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.credit = self.credit.saturating_sub(taken);
        Poll::Ready(Ok(bytes.len()))
    }

    /// Ready once everything that was written is sent.
    pub(super) fn poll_flush(&mut self, waker: &Waker) -> Poll<Result<(), StreamError>> {
        if let Sending::Ended = self.outgoing {
            return Poll::Ready(Ok(()));
        }
        self.check_reset()?;
        if self.waiting_len == 0 {
            return Poll::Ready(Ok(()));
        }
        self.writer = Some(waker.clone());
        Poll::Pending
    }

    /// Ends the direction. Ready once END is sent.
    pub(super) fn poll_shutdown(&mut self, waker: &Waker) -> Poll<Result<(), StreamError>> {
        if let Sending::Ended = self.outgoing {
            return Poll::Ready(Ok(()));
        }
        self.check_reset()?;
        self.outgoing = Sending::Ending;
        self.writer = Some(waker.clone());
        Poll::Pending
    }

    fn check_reset(&self) -> Result<(), StreamError> {
        if let Some(reason) = &self.reset_here {
            return Err(StreamError::reset_here(reason));
        }
        self.stopped
            .as_ref()
            .map_or(Ok(()), |reason| Err(StreamError::reset(reason)))
    }

    fn check_writable(&self) -> Result<(), StreamError> {
        self.check_reset()?;
        match self.outgoing {
            Sending::Open => Ok(()),
            _ => Err(StreamError::ended()),
        }
    }

    /// Resets the stream, unless it is over.
    pub(super) fn reset(&mut self, reason: &str, wakes: &mut Wakes) {
        if self.reset_here.is_some() || self.is_over() {
            return;
        }
        let reason: Arc<str> = reason.into();
        self.received.clear();
        self.clear_waiting();
        match self.outgoing {
            Sending::Open | Sending::Ending => {
                self.outgoing = Sending::Resetting(Arc::clone(&reason));
            }
            Sending::Ended => self.stopping = Some(Arc::clone(&reason)),
            Sending::Resetting(_) | Sending::Reset => {}
        }
        self.reset_here = Some(reason);
        self.wake_both(wakes);
    }

    /// Notes that the application has dropped its handle. What it has shut down is still sent;
    /// otherwise this is a reset.
    pub(super) fn let_go(&mut self, wakes: &mut Wakes) {
        self.held = false;
        self.received.clear();
        (self.reader, self.writer) = (None, None);
        match self.outgoing {
            Sending::Ending | Sending::Ended => {
                if self.incoming.is_none() && self.reset_here.is_none() {
                    self.stopping.get_or_insert_with(|| Arc::from("dropped"));
                }
            }
            _ => self.reset("dropped", wakes),
        }
    }

    /// Returns whether what the other side sends is of no use any more.
    pub(super) fn discards(&self) -> bool {
        !self.held || self.reset_here.is_some()
    }

    /// Returns whether both directions have ended.
    pub(super) fn is_over(&self) -> bool {
        let sent = matches!(self.outgoing, Sending::Ended | Sending::Reset);
        sent && self.incoming.is_some()
    }

    /// Returns whether nobody needs the stream any more.
    pub(super) fn is_done(&self) -> bool {
        self.is_over() && !self.held
    }

    /// Returns whether there are bytes to be read, or it is known how they end.
    pub(super) fn is_readable(&self) -> bool {
        !self.received.is_empty() || self.incoming.is_some() || self.reset_here.is_some()
    }

    /// Returns whether END was sent.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.outgoing, Sending::Ended)
    }

    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    /// Notes that the peer has left: nothing more is sent.
    pub(super) fn leave(&mut self, wakes: &mut Wakes) {
        self.clear_waiting();
        self.wake_both(wakes);
    }

    fn clear_waiting(&mut self) {
        self.waiting = VecDeque::new();
        self.waiting_len = 0;
    }

    fn wake_both(&mut self, wakes: &mut Wakes) {
        wakes.extend(self.reader.take());
        wakes.extend(self.writer.take());
    }
}
