//! Waiting for an outbox: for room, or until its content has been written.

use std::pin::Pin;

use tokio::sync::futures::Notified;

use super::{Chunk, Outbox, Refused};

impl Outbox {
    /// Takes in `chunks`, in order, waiting for room.
    ///
    /// # Errors
    ///
    /// [`Refused::Closed`] if the peer is gone or leaving.
    ///
    /// # Cancel safety
    ///
    /// Chunks taken in before the future is dropped stay in; `progress` is their number.
    pub(crate) async fn push(&self, chunks: &[Chunk], progress: &mut usize) -> Result<(), Refused> {
        let mut moved = None;
        loop {
            match self.try_push(chunks.get(*progress..).unwrap_or_default()) {
                Ok(taken) => *progress += taken,
                Err(Refused::Full) => {}
                Err(Refused::Closed) => return Err(Refused::Closed),
            }
            if *progress >= chunks.len() {
                return Ok(());
            }
            // Tries once more after registering, so as not to miss room made in between.
            match moved.take() {
                None => moved = Some(self.waiter(false)),
                Some(waiter) => Waiter::wait(waiter).await,
            }
        }
    }

    /// Waits until there may be more room than now.
    ///
    /// Try once more after the first poll, so as not to miss room made before.
    pub(crate) async fn moved(&self) {
        self.waiter(false).wait().await;
    }

    /// Takes in a frame of a channel, waiting for room, or for that of frames in `bulk`.
    ///
    /// # Errors
    ///
    /// [`Refused::Closed`] if the peer is gone or leaving.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is done, nothing was taken in.
    pub(crate) async fn push_channel(&self, chunk: &Chunk, bulk: bool) -> Result<(), Refused> {
        let mut moved = None;
        loop {
            match self.try_push_channel(chunk, bulk) {
                Err(Refused::Full) => {}
                result => return result,
            }
            // Tries once more after registering, so as not to miss room made in between.
            match moved.take() {
                None => moved = Some(self.waiter(true)),
                Some(waiter) => Waiter::wait(waiter).await,
            }
        }
    }

    /// Waits until a frame of a channel in bulk, of `len` bytes, finds room.
    ///
    /// # Errors
    ///
    /// [`Refused::Closed`] if the peer is gone or leaving.
    pub(crate) async fn bulk_room(&self, len: usize) -> Result<(), Refused> {
        let mut moved = None;
        loop {
            match self.has_bulk_room(len) {
                Err(Refused::Full) => {}
                result => return result,
            }
            match moved.take() {
                None => moved = Some(self.waiter(true)),
                Some(waiter) => Waiter::wait(waiter).await,
            }
        }
    }

    /// Waits until all that is queued now has been written or dropped.
    pub(crate) async fn flushed(&self) {
        let (frames, channel) = {
            let state = self.state();
            let channels = state.channels.as_ref();
            let channel = channels.map(|channels| channels.lane.queue.taken());
            (state.frames.queue.taken(), channel)
        };
        self.done_with(false, frames).await;
        if let Some(channel) = channel {
            self.done_with(true, channel).await;
        }
    }

    /// Waits, if more than `most` bytes are queued, until about half of `most` are.
    pub(crate) async fn eased(&self, most: usize) {
        let target = {
            let state = self.state();
            if state.frames.queue.used() <= most {
                return;
            }
            state.frames.queue.taken().saturating_sub((most / 2) as u64)
        };
        self.done_with(false, target).await;
    }

    /// Waits until `target` bytes of frames, or of frames of channels, counted from the beginning,
    /// have been written or dropped.
    async fn done_with(&self, channel: bool, target: u64) {
        loop {
            let waiter = self.waiter(channel);
            if self.state().lane(channel).is_done_with(target) {
                return;
            }
            waiter.wait().await;
        }
    }

    /// Registers a task that waits for frames, or for frames of channels. Wake-ups from now on are
    /// not missed.
    fn waiter(&self, channel: bool) -> Waiter<'_> {
        self.state().lane(channel).waiters += 1;
        let mut moved = Box::pin(self.moved.notified());
        moved.as_mut().enable();
        Waiter {
            outbox: self,
            channel,
            moved,
        }
    }
}

/// A task that waits for an outbox, counted there until this is dropped.
struct Waiter<'a> {
    outbox: &'a Outbox,
    /// Whether it waits for frames of channels.
    channel: bool,
    moved: Pin<Box<Notified<'a>>>,
}

impl Waiter<'_> {
    async fn wait(mut self) {
        self.moved.as_mut().await;
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut state = self.outbox.state();
        let waiters = &mut state.lane(self.channel).waiters;
        *waiters = waiters.saturating_sub(1);
    }
}
