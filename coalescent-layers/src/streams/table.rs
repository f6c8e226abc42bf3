//! All streams of one peer: frames in, frames out, without socket or clock.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Poll;
use std::task::Waker;

use bytes::Bytes;

use super::error::StreamError;
use super::frame::{LAST_NUMBER, Opener, StreamFrame, StreamId};
use super::state::{Fault, Stream, Wakes};

/// How many streams a peer may have open at a time, of those that it has opened itself: 32.
pub const MAX_STREAMS: u32 = 32;

/// A stream, by the side that has opened it and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) ours: bool,
    pub(super) number: u32,
}

/// What a frame leads to, beside what it changes here.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    None,
    /// The other side has opened a stream. It is to be [accepted](Stream::accept), or reset.
    Opened(Key, String),
    /// This side may open more streams.
    Places,
}

/// The streams of one peer.
#[derive(Debug)]
pub(super) struct Table {
    /// The credit that this side gives for each stream.
    window: u32,
    /// The most bytes in one DATA frame.
    chunk: usize,
    streams: HashMap<Key, Stream>,
    /// The streams that may have something to send, each once. They have their turns one after the
    /// other, with one frame each.
    listed: VecDeque<Key>,
    /// The numbers of the last streams that each side has opened.
    last_ours: u32,
    last_theirs: u32,
    /// How many more streams each side may open.
    places_ours: u32,
    places_theirs: u32,
    /// How many places the other side is to be given.
    freed: u32,
    /// Why the peer has left.
    left: Option<Arc<str>>,
}

impl Key {
    /// Returns the stream as it stands in a frame of this side.
    fn sent(self) -> StreamId {
        let opener = if self.ours {
            Opener::Sender
        } else {
            Opener::Receiver
        };
        StreamId {
            opener,
            number: self.number,
        }
    }

    /// Returns the stream of a frame that was received.
    fn of(stream: StreamId) -> Self {
        Self {
            ours: stream.opener == Opener::Receiver,
            number: stream.number,
        }
    }
}

impl Table {
    pub(super) fn new(window: u32, chunk: usize) -> Self {
        Self {
            window,
            chunk: chunk.max(1),
            streams: HashMap::new(),
            listed: VecDeque::new(),
            last_ours: 0,
            last_theirs: 0,
            places_ours: MAX_STREAMS,
            places_theirs: MAX_STREAMS,
            freed: 0,
            left: None,
        }
    }

    pub(super) fn chunk(&self) -> usize {
        self.chunk
    }

    /// Opens a stream. `None` if there is no place for it now.
    pub(super) fn open(&mut self, name: &str) -> Result<Option<Key>, StreamError> {
        self.check_left()?;
        if self.last_ours == LAST_NUMBER {
            return Err(StreamError::no_numbers());
        }
        let Some(places) = self.places_ours.checked_sub(1) else {
            return Ok(None);
        };
        self.places_ours = places;
        self.last_ours = self.last_ours.saturating_add(1);
        let key = Key {
            ours: true,
            number: self.last_ours,
        };
        let stream = Stream::ours(key.sent(), self.window, name);
        self.streams.insert(key, stream);
        self.list(key);
        Ok(Some(key))
    }

    /// Handles a frame of the other side.
    ///
    /// # Errors
    ///
    /// If it is against the rules of the channel.
    pub(super) fn receive(
        &mut self,
        frame: StreamFrame,
        wakes: &mut Wakes,
    ) -> Result<Effect, Fault> {
        if self.left.is_some() {
            return Ok(Effect::None);
        }
        let key = match frame {
            StreamFrame::Open {
                stream,
                credit,
                name,
            } => return self.receive_open(Key::of(stream), credit, name),
            StreamFrame::Places { streams } => {
                let places = self.places_ours.saturating_add(streams);
                if places > MAX_STREAMS {
                    return Err("more places than a side may have");
                }
                self.places_ours = places;
                return Ok(Effect::Places);
            }
            StreamFrame::Data { stream, bytes } => {
                let key = Key::of(stream);
                let stream = self.known(key)?.ok_or("bytes of a stream that is over")?;
                stream.take_data(bytes, wakes).inspect_err(|_| {
                    // It is reset.
                    self.list(key);
                })?;
                key
            }
            StreamFrame::End { stream } => {
                let key = Key::of(stream);
                let stream = self.known(key)?.ok_or("an end of a stream that is over")?;
                stream.take_end(wakes)?;
                key
            }
            StreamFrame::Reset { stream, reason } => {
                let key = Key::of(stream);
                if let Some(stream) = self.known(key)? {
                    stream.take_reset(reason, wakes);
                }
                key
            }
            StreamFrame::Credit { stream, bytes } => {
                let key = Key::of(stream);
                if let Some(stream) = self.known(key)? {
                    stream.take_credit(bytes, wakes)?;
                }
                key
            }
        };
        self.changed(key);
        Ok(Effect::None)
    }

    fn receive_open(&mut self, key: Key, credit: u32, name: String) -> Result<Effect, Fault> {
        if key.number <= self.last_theirs {
            return Err("a stream that was opened before");
        }
        if key.number != self.last_theirs.saturating_add(1) {
            return Err("a stream that is not opened in order");
        }
        if credit > super::MAX_CREDIT {
            return Err("more credit than a stream may have");
        }
        let Some(places) = self.places_theirs.checked_sub(1) else {
            return Err("more streams than there are places");
        };
        self.places_theirs = places;
        self.last_theirs = key.number;
        let stream = Stream::theirs(key.sent(), self.window, credit);
        self.streams.insert(key, stream);
        Ok(Effect::Opened(key, name))
    }

    /// Returns a stream, or `None` if it is over.
    fn known(&mut self, key: Key) -> Result<Option<&mut Stream>, Fault> {
        let last = if key.ours {
            self.last_ours
        } else {
            self.last_theirs
        };
        if key.number > last {
            return Err("a stream that was never opened");
        }
        let stream = self.streams.get_mut(&key);
        Ok(stream.filter(|stream| !stream.is_over()))
    }

    /// Does something with a stream that the application holds. Fails if the peer has left, unless
    /// this side had ended its direction before.
    pub(super) fn with<T>(
        &mut self,
        key: Key,
        act: impl FnOnce(&mut Stream) -> T,
    ) -> Result<T, StreamError> {
        let Some(stream) = self.streams.get_mut(&key) else {
            self.check_left()?;
            return Err(StreamError::left("it is over"));
        };
        if let Some(why) = self.left.as_deref()
            && !stream.has_ended()
        {
            return Err(StreamError::left(why));
        }
        let result = act(stream);
        if self.left.is_none() {
            self.changed(key);
        }
        Ok(result)
    }

    fn check_left(&self) -> Result<(), StreamError> {
        let left = self.left.as_deref();
        left.map_or(Ok(()), |why| Err(StreamError::left(why)))
    }

    /// Looks after a stream that may have changed.
    fn changed(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(&key) else {
            return;
        };
        if stream.is_done() {
            self.streams.remove(&key);
            if !key.ours {
                self.freed = self.freed.saturating_add(1);
            }
        } else if stream.has_frame() {
            self.list(key);
        }
    }

    fn list(&mut self, key: Key) {
        if let Some(stream) = self.streams.get_mut(&key)
            && !stream.listed
        {
            stream.listed = true;
            self.listed.push_back(key);
        }
    }

    /// Returns whether there may be something to send.
    pub(super) fn has_frame(&self) -> bool {
        self.left.is_none() && (self.freed > 0 || !self.listed.is_empty())
    }

    /// Takes the next frame to be sent.
    pub(super) fn next_frame(&mut self, wakes: &mut Wakes) -> Option<Bytes> {
        if self.left.is_some() {
            return None;
        }
        if self.freed > 0 {
            let streams = std::mem::take(&mut self.freed);
            self.places_theirs = self.places_theirs.saturating_add(streams);
            return Some(StreamFrame::Places { streams }.encode());
        }
        while let Some(key) = self.listed.pop_front() {
            let Some(stream) = self.streams.get_mut(&key) else {
                continue;
            };
            stream.listed = false;
            let frame = stream.next_frame(wakes);
            self.changed(key);
            if frame.is_some() {
                return frame;
            }
        }
        None
    }

    /// Ends all streams, since the peer has left. What was received can still be read.
    pub(super) fn leave(&mut self, why: &str, wakes: &mut Wakes) {
        self.left.get_or_insert_with(|| why.into());
        self.listed = VecDeque::new();
        self.streams.retain(|_, stream| {
            stream.leave(wakes);
            stream.is_held()
        });
    }

    /// Lends the next bytes of a stream; none if its direction has ended. What has come can be read
    /// even if the peer has left since.
    pub(super) fn poll_front(
        &mut self,
        key: Key,
        waker: &Waker,
    ) -> Poll<Result<&[u8], StreamError>> {
        let left = self.left.as_deref();
        let Some(stream) = self.streams.get_mut(&key) else {
            return Poll::Ready(Err(StreamError::left(left.unwrap_or("it is over"))));
        };
        match left {
            Some(why) if !stream.is_readable() => Poll::Ready(Err(StreamError::left(why))),
            _ => stream.poll_front(waker),
        }
    }

    /// Removes bytes that were read.
    pub(super) fn consume(&mut self, key: Key, count: usize) {
        if let Some(stream) = self.streams.get_mut(&key) {
            stream.consume(count);
        }
        if self.left.is_none() {
            self.changed(key);
        }
    }

    /// Notes that the application has dropped its handle to a stream.
    pub(super) fn let_go(&mut self, key: Key, wakes: &mut Wakes) {
        if self.left.is_some() {
            self.streams.remove(&key);
        } else if let Some(stream) = self.streams.get_mut(&key) {
            stream.let_go(wakes);
            self.changed(key);
        }
    }

    /// Returns how many streams there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.streams.len()
    }
}
