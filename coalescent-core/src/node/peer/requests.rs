//! Requests of this node's to one peer, and who waits for their replies.

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
pub(crate) struct Requests(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    next: u32,
    /// Nobody can wait any more: the peer is gone.
    closed: bool,
    /// By a hash without a key, which is fast: the numbers are this node's own, and what peers
    /// send is only looked up.
    by_id: FxHashMap<u32, oneshot::Sender<Answer>>,
}

/// A request that waits for its reply. Dropped before that, it tells the peer so, if the peer was
/// asked.
#[derive(Debug)]
pub(crate) struct Pending<'a> {
    id: u32,
    peer: &'a Peer,
    asked: bool,
    answer: Option<oneshot::Receiver<Answer>>,
}

impl Requests {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a number that no waiting request has.
    pub(crate) fn open<'a>(&self, peer: &'a Peer) -> Pending<'a> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.waiting();
        let mut id = waiting.next;
        while waiting.by_id.contains_key(&id) {
            id = id.wrapping_add(1);
        }
        waiting.next = id.wrapping_add(1);
        if waiting.closed {
            let _ = sender.send(Err(Error::closed()));
        } else {
            waiting.by_id.insert(id, sender);
        }
        Pending {
            id,
            peer,
            asked: false,
            answer: Some(receiver),
        }
    }

    /// Gives a reply to the one who waits for it. A reply that nobody awaits is no error: the wait
    /// may have just ended.
    pub(crate) fn complete(&self, id: u32, status: Status, payload: Bytes) {
        let Some(sender) = self.waiting().by_id.remove(&id) else {
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

    /// Whether somebody waits for an answer of the peer.
    pub(crate) fn is_open(&self) -> bool {
        !self.waiting().by_id.is_empty()
    }

    /// Fails all that wait: the peer is gone.
    pub(crate) fn fail_all(&self) {
        let mut waiting = self.waiting();
        waiting.closed = true;
        for (_, sender) in std::mem::take(&mut waiting.by_id) {
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
            .waiting()
            .by_id
            .remove(&self.id)
            .is_some();
        if waited && self.asked {
            // Only a hint: where there is no room for it, the reply comes in vain.
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
