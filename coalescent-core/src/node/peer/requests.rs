//! The requests that this node has sent to one peer, and the tasks that wait for their replies.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use crate::error::Error;
use crate::node::peer::Peer;
use crate::outbox::Count;
use crate::text::Escaped;
use crate::wire::{Kind, Status};

type Answer = Result<Bytes, Error>;

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

/// A request that waits for its reply. If it is dropped before, it tells the peer so, unless the
/// request was never sent.
#[derive(Debug)]
pub(crate) struct Pending<'a> {
    id: u32,
    peer: &'a Peer,
    /// Whether the request is on its way.
    asked: bool,
    /// `None` once the answer was taken.
    answer: Option<oneshot::Receiver<Answer>>,
}

impl Requests {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a request, with an id that no waiting request has. It fails at once if the peer is
    /// gone.
    pub(crate) fn open<'a>(&self, peer: &'a Peer) -> Pending<'a> {
        let (sender, receiver) = oneshot::channel();
        let mut table = self.table();
        let mut id = table.next;
        while table.by_id.contains_key(&id) {
            id = id.wrapping_add(1);
        }
        table.next = id.wrapping_add(1);
        // Looked at under the lock, which `fail_all` takes after the peer is gone.
        if !peer.is_connected() {
            let _ = sender.send(Err(Error::closed()));
        } else {
            table.by_id.insert(id, sender);
        }
        Pending {
            id,
            peer,
            asked: false,
            answer: Some(receiver),
        }
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
                Err(Error::failed(&Escaped(&reason).to_string()))
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

impl Pending<'_> {
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Notes that the request is on its way.
    pub(crate) fn set_asked(&mut self) {
        self.asked = true;
    }

    /// Waits for the reply.
    pub(crate) async fn wait(mut self) -> Answer {
        let Some(answer) = self.answer.as_mut() else {
            return Err(Error::closed());
        };
        let result = answer.await.unwrap_or_else(|_| Err(Error::closed()));
        self.answer = None;
        result
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if self.answer.is_none() {
            return;
        }
        let waited = self
            .peer
            .requests()
            .table()
            .by_id
            .remove(&self.id)
            .is_some();
        if waited && self.asked {
            // Only a hint: if there is no room for it, the reply comes in vain.
            if let Ok(cancel) = self.peer.encode(
                Kind::Cancel { id: self.id },
                0,
                Bytes::new(),
                Count::default(),
            ) {
                let _ = self.peer.outbox().try_push(&[cancel]);
            }
        }
    }
}
