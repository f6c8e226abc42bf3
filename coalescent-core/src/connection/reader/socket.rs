//! Reads from the socket into the buffer, and drops the buffer when nothing comes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::buf::Limit;
use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;

use super::super::buffer::{READ_MAX, READ_MIN};
use super::{Activity, Reader, Stream, TURN};
use crate::reason::DisconnectReason;
use crate::stack::PeerService;

/// After a read of at least this many bytes, more may be available even if the read did not fill
/// its room: streams that decrypt return a record of 16 KiB at a time. So another read follows at
/// once, and both are decoded together, so that the cost of a block is not paid for each.
const PART: usize = 4 * 1024;

/// After this long with nothing read, a connection drops its buffer.
const IDLE: Duration = Duration::from_secs(1);

/// How many bytes a read brought, and the end of the stream, if it was found behind them.
type ReadResult = (usize, Option<DisconnectReason>);

impl<R, S> Reader<R, S>
where
    R: AsyncRead + Unpin,
    S: PeerService,
{
    /// Reads the bytes that are available, or finds the end of the stream.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        if let Stream::EndSeen(_) = self.stream {
            if let Stream::EndSeen(end) = std::mem::replace(&mut self.stream, Stream::Open) {
                self.stream = Stream::Ended(end);
            }
            return Poll::Ready(());
        }
        let Poll::Ready((read, end)) = self.poll_socket(cx) else {
            self.read = 0;
            self.turns = 0;
            self.poll_idle(cx, now);
            return Poll::Pending;
        };
        if read > 0 {
            self.read += read;
            self.peer.counters().add_bytes_received(read);
            let busy = self.activity.busy(&self.peer);
            busy.buffer.filled();
            busy.read_since_idle = true;
        }
        if let Some(end) = end {
            self.stream = if read > 0 {
                Stream::EndSeen(end)
            } else {
                Stream::Ended(end)
            };
        }
        Poll::Ready(())
    }

    fn poll_socket(&mut self, cx: &mut Context<'_>) -> Poll<ReadResult> {
        match &mut self.activity {
            Activity::Busy(busy) if !busy.buffer.is_none() => {
                // The peer may claim any length for a frame. So the room for it at most doubles
                // with each read, beyond a buffer's size.
                let read = busy.buffer.bytes();
                let missing = self.codec.missing(read).min(read.len().max(READ_MAX));
                let most = busy.buffer.make_room(missing);
                let mut room = busy.buffer.bytes_mut().limit(most);
                poll_read_all(&mut self.io, cx, &mut room, TURN.saturating_sub(self.read))
            }
            _ => self.poll_read_first(cx),
        }
    }

    /// Reads the first bytes after an idle period. There is no buffer before they come.
    fn poll_read_first(&mut self, cx: &mut Context<'_>) -> Poll<ReadResult> {
        let mut first = [0; READ_MIN];
        let mut first = ReadBuf::new(&mut first);
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, &mut first));
        let first = first.filled();
        if !first.is_empty() {
            self.activity.busy(&self.peer).buffer.start(first);
        }
        Poll::Ready((first.len(), end_of(read.map(|()| first.len()))))
    }

    /// Drops the buffer and all other memory for frames once nothing was read for a while.
    fn poll_idle(&mut self, cx: &mut Context<'_>, now: Instant) {
        let Activity::Busy(busy) = &mut self.activity else {
            return;
        };
        if !busy.buffer.is_none() {
            let idle = busy
                .idle
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(IDLE)));
            loop {
                if idle.as_mut().poll(cx).is_pending() {
                    return;
                }
                if !std::mem::take(&mut busy.read_since_idle) && busy.buffer.bytes().is_empty() {
                    break;
                }
                let fired = idle.deadline();
                idle.as_mut().reset(now.max(fired) + IDLE);
            }
            busy.idle = None;
            busy.buffer.fall_idle();
            busy.driver.fall_idle();
        }
        self.activity.fall_asleep();
    }
}

/// Returns the end of the stream if the read found it.
fn end_of(read: io::Result<usize>) -> Option<DisconnectReason> {
    match read {
        Ok(0) => Some(DisconnectReason::Closed),
        Ok(_) => None,
        Err(error) => Some(DisconnectReason::Io(error.kind())),
    }
}

/// Reads the bytes that are available, as far as `room` holds them. Stops after `most` bytes.
fn poll_read_all<R: AsyncRead + Unpin>(
    io: &mut R,
    cx: &mut Context<'_>,
    room: &mut Limit<&mut BytesMut>,
    most: usize,
) -> Poll<ReadResult> {
    let mut all = 0;
    loop {
        let Poll::Ready(read) = poll_read_buf(Pin::new(&mut *io), cx, room) else {
            return if all > 0 {
                Poll::Ready((all, None))
            } else {
                Poll::Pending
            };
        };
        let some = *read.as_ref().unwrap_or(&0);
        all += some;
        let end = end_of(read);
        if end.is_some() || some < PART || all >= most || !room.has_remaining_mut() {
            return Poll::Ready((all, end));
        }
    }
}
