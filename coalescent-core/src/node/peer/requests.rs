//! The requests that this node has sent to one peer, and the tasks that wait for their replies.
//!
//! # Why asking cannot freeze
//!
//! A reply stands behind other frames in the peer's stream. If this node stopped reading because of
//! the peer's requests, it would not find the replies that its own handlers wait for; if the peer
//! did the same, both would wait for each other. So no side ever stops reading because of requests:
//!
//! - The *asking* side keeps a [window](REQUEST_WINDOW): requests beyond it wait here, without
//!   being written, until replies have come. A request that a handler sends, to whatever peer, has
//!   a window of its own, since the requests in the other one may be waiting for it. A request
//!   larger than the window is sent when it is alone in it.
//! - The *asked* side has room beside [`read_ahead`](crate::Config::read_ahead) for what both
//!   windows hold ([`requests_ahead`](crate::connection::requests_ahead)), whether the requests
//!   wait for their calls or are being answered.
//! - Replies are taken out of the stream as they are read: they go to the tasks that wait for them,
//!   and count towards nothing.
//! - Replies that find no room in the peer's outbox wait for it, and keep further frames from being
//!   handled, but not from being read. The outbox gets room, because the peer reads on too.
//!
//! - A handler that waits for such a reply takes none of the `concurrency` places, so that requests
//!   that ask back, in whatever depth, find one ([`Requests::asking`]). With a `concurrency` of 1
//!   it does, because then each frame waits for the one before.
//!
//! What remains is up to handlers. Requests that are asked back more than once share one window:
//! if they hold more than it, they wait for each other until `request_timeout`. So do more than
//! [`MAX_CONCURRENCY`](crate::config::MAX_CONCURRENCY) that ask back at the same time, and more
//! than `concurrency` that go round a ring of three nodes or more, each of whose handlers asks the
//! next, more than once.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustc_hash::FxHashMap;
use tokio::sync::{Semaphore, oneshot};

use crate::error::Error;
use crate::wire::Status;

/// The most bytes that the unanswered requests to one peer may hold, each with its
/// [`REQUEST_COST`]. Further requests wait. It is less if the largest payload that the peer takes
/// is smaller, but at least 64 KiB. One request may be sent whatever its size.
///
/// Requests that handlers send have a window of the same size of their own. Tasks that a handler
/// spawns, or that a layer such as tower's `Buffer` runs it in, do not count as the handler here.
pub const REQUEST_WINDOW: usize = 1024 * 1024;

/// What each unanswered request counts for, in bytes, in addition to its payload. So at most 2,048
/// requests of each window are in flight.
pub const REQUEST_COST: usize = 512;

/// The window for a peer that takes only small payloads.
const LEAST_WINDOW: usize = 64 * 1024;

pub(super) type Answer = Result<Bytes, Error>;

/// The requests that wait for a reply of one peer.
#[derive(Debug)]
pub(crate) struct Requests {
    table: Mutex<Table>,
    /// The size of each window in bytes.
    size: u32,
    /// What is free of the window for requests of no handler.
    plain: Semaphore,
    /// What is free of the window for those of handlers.
    nested: Semaphore,
    /// How many of those wait, for a place in the window or for their reply.
    asking: AtomicUsize,
}

/// A request of a handler of the peer's frames, counted until this is dropped.
#[derive(Debug)]
pub(super) struct Asking<'a>(&'a AtomicUsize);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[derive(Debug, Default)]
struct Table {
    /// The id of the next request, if no waiting request has it.
    next: u32,
    /// The requests by their id. The hash has no key, and so is fast: the ids are chosen by this
    /// node, and those that peers send are only looked up.
    by_id: FxHashMap<u32, Unanswered>,
}

/// A request that the peer may still hold.
#[derive(Debug)]
struct Unanswered {
    /// The task that waits; `None` if it has given up, and there was no room to tell the peer so.
    waiting: Option<oneshot::Sender<Answer>>,
    place: Place,
}

/// A place in a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    nested: bool,
    cost: u32,
}

impl Requests {
    /// Returns no requests to a peer that takes payloads of up to `max_payload` bytes, as far as
    /// that is known.
    pub(super) fn new(max_payload: Option<usize>) -> Self {
        let size = window(max_payload);
        Self {
            table: Mutex::default(),
            size,
            plain: Semaphore::new(size as usize),
            nested: Semaphore::new(size as usize),
            asking: AtomicUsize::new(0),
        }
    }

    /// Counts a request of a handler of the peer's frames.
    pub(super) fn ask(&self) -> Asking<'_> {
        self.asking.fetch_add(1, Relaxed);
        Asking(&self.asking)
    }

    /// Returns how many requests of handlers of the peer's frames wait.
    pub(crate) fn asking(&self) -> usize {
        self.asking.load(Relaxed)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn window(&self, nested: bool) -> &Semaphore {
        if nested { &self.nested } else { &self.plain }
    }

    /// Waits for a place in a window for a request of `len` bytes, in the order in which requests
    /// came. Fails once the peer is gone.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is done, no place is taken.
    pub(super) async fn enter(&self, nested: bool, len: usize) -> Result<Place, Error> {
        let cost = cost(len, self.size);
        let taken = self.window(nested).acquire_many(cost).await;
        taken.map_err(|_| Error::closed())?.forget();
        Ok(Place { nested, cost })
    }

    /// Gives a place back.
    fn leave(&self, place: Place) {
        let window = self.window(place.nested);
        window.add_permits(place.cost as usize);
    }

    /// Opens a request, with an id that no waiting request has. It fails at once if the peer is no
    /// longer connected.
    pub(super) fn open(
        &self,
        place: Place,
        is_connected: impl FnOnce() -> bool,
    ) -> (u32, oneshot::Receiver<Answer>) {
        let (sender, receiver) = oneshot::channel();
        let mut table = self.table();
        let mut id = table.next;
        while table.by_id.contains_key(&id) {
            id = id.wrapping_add(1);
        }
        table.next = id.wrapping_add(1);
        // Looked at under the lock, which `fail_all` takes after the peer is gone.
        if is_connected() {
            let unanswered = Unanswered {
                waiting: Some(sender),
                place,
            };
            table.by_id.insert(id, unanswered);
        } else {
            let _ = sender.send(Err(Error::closed()));
        }
        (id, receiver)
    }

    /// Removes a request that nobody waits for any more, once `told` has told the peer so. If that
    /// fails, the request keeps its place until its reply comes.
    pub(super) fn cancel(&self, id: u32, told: impl FnOnce() -> bool) {
        let mut table = self.table();
        let Some(unanswered) = table.by_id.get_mut(&id) else {
            return;
        };
        let place = unanswered.place;
        if told() {
            table.by_id.remove(&id);
            drop(table);
            self.leave(place);
        } else {
            unanswered.waiting = None;
        }
    }

    /// Passes a reply to the task that waits for it. A reply that nobody waits for is no error: the
    /// wait may have just ended.
    pub(crate) fn complete(&self, id: u32, status: Status, payload: Bytes) {
        let Some(unanswered) = self.table().by_id.remove(&id) else {
            return;
        };
        self.leave(unanswered.place);
        let Some(waiting) = unanswered.waiting else {
            return;
        };
        let answer = match status {
            Status::Ok => Ok(payload),
            Status::NoAnswer => Err(Error::no_answer()),
            Status::Failed => {
                let reason = String::from_utf8_lossy(&payload);
                Err(Error::failed(&reason))
            }
        };
        let _ = waiting.send(answer);
    }

    /// Returns whether a task waits for a reply of the peer.
    pub(crate) fn is_open(&self) -> bool {
        let table = self.table();
        table.by_id.values().any(|one| one.waiting.is_some())
    }

    /// Fails all requests that wait: the peer is gone.
    pub(super) fn fail_all(&self) {
        self.plain.close();
        self.nested.close();
        let failed = std::mem::take(&mut self.table().by_id);
        for waiting in failed.into_values().filter_map(|one| one.waiting) {
            let _ = waiting.send(Err(Error::closed()));
        }
    }
}

/// Returns the size of the windows for a peer that takes payloads of up to this many bytes.
fn window(max_payload: Option<usize>) -> u32 {
    let window = max_payload.unwrap_or(0).clamp(LEAST_WINDOW, REQUEST_WINDOW);
    u32::try_from(window).unwrap_or(u32::MAX)
}

/// Returns what a request of `len` bytes takes of a window: at most all of it.
fn cost(len: usize, window: u32) -> u32 {
    let cost = u32::try_from(len.saturating_add(REQUEST_COST));
    cost.unwrap_or(u32::MAX).min(window)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_window_is_what_the_peer_takes_within_limits() {
        assert_eq!(window(None), 64 * 1024);
        assert_eq!(window(Some(10)), 64 * 1024);
        assert_eq!(window(Some(100_000)), 100_000);
        assert_eq!(window(Some(usize::MAX)), 1024 * 1024);
        assert_eq!(cost(0, 64 * 1024), 512);
        assert_eq!(cost(usize::MAX, 64 * 1024), 64 * 1024);
    }

    #[test]
    fn a_window_takes_one_request_of_any_size_and_then_waits() {
        let requests = Requests::new(Some(0));
        let large = requests.enter(false, 1 << 30).now_or_never();
        let large = large.unwrap().unwrap();
        assert!(requests.enter(false, 0).now_or_never().is_none());
        let nested = requests.enter(true, 1 << 30).now_or_never();
        assert!(nested.unwrap().is_ok(), "it has a window of its own");
        let (id, _answer) = requests.open(large, || true);
        requests.complete(id, Status::Ok, Bytes::new());
        assert!(requests.enter(false, 0).now_or_never().is_some());
    }

    #[test]
    fn a_request_that_the_peer_may_hold_keeps_its_place() {
        let requests = Requests::new(Some(0));
        for (told, free) in [(true, true), (false, false)] {
            let place = requests.enter(false, 1 << 20).now_or_never();
            let (id, _answer) = requests.open(place.unwrap().unwrap(), || true);
            requests.cancel(id, || told);
            assert!(!requests.is_open());
            assert_eq!(requests.plain.available_permits() > 0, free);
            requests.complete(id, Status::NoAnswer, Bytes::new());
            assert_eq!(requests.plain.available_permits(), LEAST_WINDOW);
        }
    }

    #[test]
    fn nobody_waits_for_a_peer_that_is_gone() {
        let requests = Requests::new(None);
        let _place = requests.enter(false, 1 << 20).now_or_never();
        let mut waiting = Box::pin(requests.enter(false, 1));
        assert!(waiting.as_mut().now_or_never().is_none());
        requests.fail_all();
        let error = waiting.now_or_never().unwrap().unwrap_err();
        assert!(error.is_closed());
    }
}
