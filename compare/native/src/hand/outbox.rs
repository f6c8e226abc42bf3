//! The queue of one peer: slices of the buffers that were read from others, bounded in bytes.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

/// Bytes that a queue may hold.
const BOUND: usize = 4 * 1024 * 1024;
/// Slices that are written at once.
const SLICES: usize = 64;

/// The queue of one peer.
#[derive(Debug, Default)]
pub struct Outbox {
    state: Mutex<State>,
    filled: Notify,
    emptied: Notify,
}

#[derive(Debug, Default)]
struct State {
    runs: VecDeque<Bytes>,
    bytes: usize,
    closed: bool,
}

impl Outbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for room, and queues a run. Returns false if the outbox is closed.
    pub async fn push(&self, run: Bytes) -> bool {
        loop {
            let emptied = self.emptied.notified();
            {
                let mut state = self.state();
                if state.closed {
                    return false;
                }
                if state.bytes + run.len() <= BOUND || state.runs.is_empty() {
                    state.bytes += run.len();
                    state.runs.push_back(run);
                    let first = state.runs.len() == 1;
                    drop(state);
                    if first {
                        self.filled.notify_one();
                    }
                    return true;
                }
            }
            emptied.await;
        }
    }

    /// Refuses further runs, and ends the writer.
    pub fn close(&self) {
        self.state().closed = true;
        self.filled.notify_one();
        self.emptied.notify_waiters();
    }

    /// Writes the runs until the outbox is closed.
    ///
    /// # Errors
    ///
    /// Where the socket fails.
    pub async fn write<W: AsyncWrite + Unpin>(&self, io: &mut W) -> io::Result<()> {
        let mut batch = VecDeque::with_capacity(SLICES);
        loop {
            {
                let mut state = self.state();
                if state.closed {
                    return Ok(());
                }
                let some = state.runs.len().min(SLICES);
                batch.extend(state.runs.drain(..some));
            }
            if batch.is_empty() {
                self.filled.notified().await;
                continue;
            }
            let bytes: usize = batch.iter().map(Bytes::len).sum();
            while !batch.is_empty() {
                let mut slices = [IoSlice::new(&[]); SLICES];
                for (slice, run) in slices.iter_mut().zip(&batch) {
                    *slice = IoSlice::new(run);
                }
                let some = batch.len();
                let mut written = io.write_vectored(&slices[..some]).await?;
                if written == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                while let Some(run) = batch.front_mut() {
                    if written < run.len() {
                        run.advance(written);
                        break;
                    }
                    written -= run.len();
                    batch.pop_front();
                }
            }
            io.flush().await?;
            self.state().bytes -= bytes;
            self.emptied.notify_waiters();
        }
    }
}
