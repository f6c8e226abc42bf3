//! The requests that this node has sent to one peer, and the tasks that wait for their replies.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use crate::error::Error;
use crate::wire::Status;

pub(super) type Answer = Result<Bytes, Error>;

/// The requests that wait for a reply of one peer.
#[derive(Debug, Default)]
pub(crate) struct Requests(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    /// The id of the next request, if no waiting request has it.
    next: u32,
    /// The tasks that wait, by the id of their request. The hash has no key, and so is fast: the
    /// ids are chosen by this node, and those that peers send are only looked up.
    by_id: FxHashMap<u32, oneshot::Sender<Answer>>,
}

impl Requests {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a request, with an id that no waiting request has. It fails at once if the peer is no
    /// longer connected.
    pub(super) fn open(
        &self,
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
            table.by_id.insert(id, sender);
        } else {
            let _ = sender.send(Err(Error::closed()));
        }
        (id, receiver)
    }

    /// Removes a request that nobody waits for any more. Returns whether its reply had not come.
    pub(super) fn cancel(&self, id: u32) -> bool {
        self.table().by_id.remove(&id).is_some()
    }

    /// Passes a reply to the task that waits for it. A reply that nobody waits for is no error: the
    /// wait may have just ended.
    pub(crate) fn complete(&self, id: u32, status: Status, payload: Bytes) {
        let Some(sender) = self.table().by_id.remove(&id) else {
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
        let _ = sender.send(answer);
    }

    /// Returns whether a task waits for a reply of the peer.
    pub(crate) fn is_open(&self) -> bool {
        !self.table().by_id.is_empty()
    }

    /// Fails all requests that wait: the peer is gone.
    pub(super) fn fail_all(&self) {
        for (_, sender) in std::mem::take(&mut self.table().by_id) {
            let _ = sender.send(Err(Error::closed()));
        }
    }
}
