//! The streams of one peer, shared between their handles, the channel's handler and the task that
//! sends.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::Bytes;
use coalescent_core::Peer;
use tokio::sync::Notify;

use super::accept::Node;
use super::error::StreamError;
use super::frame::{CHANNEL, HEAD, StreamFrame};
use super::handle::PeerStream;
use super::state::Wakes;
use super::table::{Effect, Key, Table};

/// The most bytes of a stream in one frame: 32 KiB, or what the peer takes if that is less. Streams
/// take turns by frames.
const CHUNK: usize = 32 * 1024;

/// The weight of a fault against the rules of the channel.
pub const FAULT: u32 = 20;

/// The streams of one peer.
pub(super) struct Session {
    peer: Peer,
    table: Mutex<Table>,
    /// Notified when there is something to send.
    to_send: Notify,
    /// Notified when this side may open more streams.
    places: Notify,
}

/// What is kept with a peer: its session, or `None` once it has left.
#[derive(Clone)]
struct Slot(Option<Arc<Session>>);

impl Session {
    /// Returns the session of a peer, which is made when it is first needed. `None` if the peer has
    /// left.
    pub(super) fn of(node: &Node, peer: &Peer) -> Option<Arc<Self>> {
        if let Some(Slot(session)) = peer.get() {
            return session;
        }
        // Under a lock, so that it is made once.
        let _making = node.making();
        if let Some(Slot(session)) = peer.get() {
            return session;
        }
        if !peer.is_connected() {
            return None;
        }
        let limit = peer.peers().config().max_frame;
        let limit = peer.max_payload().map_or(limit, |max| max.min(limit));
        let chunk = CHUNK.min(limit.saturating_sub(HEAD));
        let session = Arc::new(Self {
            peer: peer.clone(),
            table: Mutex::new(Table::new(node.window(), chunk)),
            to_send: Notify::new(),
            places: Notify::new(),
        });
        peer.set(Slot(Some(Arc::clone(&session))));
        tokio::spawn(Arc::clone(&session).run());
        Some(session)
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the streams, then wakes who waits for it.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Table, &mut Wakes) -> T) -> T {
        let mut wakes = Wakes::new();
        let mut table = self.table();
        let result = act(&mut table, &mut wakes);
        let sends = table.has_frame();
        drop(table);
        wakes.into_iter().for_each(Waker::wake);
        if sends {
            self.to_send.notify_one();
        }
        result
    }

    /// Sends what there is to send, until the peer leaves.
    async fn run(self: Arc<Self>) {
        let why = tokio::select! {
            reason = self.peer.closed() => reason.to_string(),
            error = self.send_all() => error.report().to_string(),
        };
        self.with(|table, wakes| table.leave(&why, wakes));
        self.places.notify_waiters();
        // The session owns the peer, which may be gone for good: it would keep both.
        self.peer.set(Slot(None));
    }

    /// Sends until that fails.
    async fn send_all(&self) -> coalescent_core::Error {
        loop {
            while let Some(frame) = self.next_frame() {
                if let Err(error) = self.peer.send_on(CHANNEL, frame).await {
                    return error;
                }
            }
            self.to_send.notified().await;
        }
    }

    fn next_frame(&self) -> Option<Bytes> {
        let mut wakes = Wakes::new();
        let frame = self.table().next_frame(&mut wakes);
        wakes.into_iter().for_each(Waker::wake);
        frame
    }

    /// Handles a frame of the peer.
    pub(super) fn heard(self: &Arc<Self>, node: &Node, payload: Bytes) {
        let effect = match StreamFrame::decode(payload) {
            Ok(frame) => self.with(|table, wakes| table.receive(frame, wakes)),
            Err(error) => {
                self.peer.penalize(FAULT, error.to_string());
                return;
            }
        };
        match effect {
            Ok(Effect::None) => {}
            Ok(Effect::Opened(key, name)) => {
                node.accept(PeerStream::new(Arc::clone(self), key, name.into()));
            }
            Ok(Effect::Places) => self.places.notify_waiters(),
            Err(fault) => self.peer.penalize(FAULT, fault),
        }
    }

    /// Opens a stream, waiting for a place.
    pub(super) async fn open(self: Arc<Self>, name: &str) -> Result<PeerStream, StreamError> {
        let key = self.place(name).await?;
        let stream = PeerStream::new(self, key, name.into());
        stream.accepted().await?;
        Ok(stream)
    }

    async fn place(&self, name: &str) -> Result<Key, StreamError> {
        loop {
            let places = self.places.notified();
            tokio::pin!(places);
            places.as_mut().enable();
            if let Some(key) = self.with(|table, _| table.open(name))? {
                return Ok(key);
            }
            places.await;
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("peer", self.peer.id())
            .finish_non_exhaustive()
    }
}
