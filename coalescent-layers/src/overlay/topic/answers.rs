//! Payloads that a neighbour has asked for, and that wait for room.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use coalescent_core::Peer;

use super::names::inner_id;
use super::payload::id_of;
use crate::overlay::ids::Key;
use crate::overlay::mirror::CHANNEL;
use crate::overlay::node::Shared;

/// How many payloads that one neighbour has asked for wait for room at most: 8,192, by their ids
/// alone. Further ones are dropped, and counted.
pub const ANSWERS: usize = 8 * 1024;

/// With each neighbour: the ids of payloads that it has asked for. While there are any, one task
/// sends them.
#[derive(Clone, Default)]
struct Answers(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    ids: VecDeque<Key>,
    /// Whether the task runs.
    sends: bool,
}

impl Answers {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next id, or notes that the task ends.
    fn next(&self) -> Option<Key> {
        let mut waiting = self.waiting();
        let next = waiting.ids.pop_front();
        if next.is_none() {
            *waiting = Waiting::default();
        }
        next
    }
}

impl Waiting {
    /// Adds a payload. Returns whether a task is to be started, or `None` if there is no room.
    fn push(&mut self, id: Key) -> Option<bool> {
        if self.ids.len() >= ANSWERS {
            return None;
        }
        self.ids.push_back(id);
        Some(!std::mem::replace(&mut self.sends, true))
    }
}

impl Shared {
    /// Sends a payload to a neighbour that has asked for it: now, or once there is room.
    pub(in crate::overlay) fn answer(&self, peer: &Peer, message: Bytes) {
        let before: Option<Answers> = peer.get();
        let waits = before.as_ref().is_some_and(|before| before.waiting().sends);
        let Some((topic, id)) = id_of(&message) else {
            return;
        };
        if !waits {
            match peer.try_send_bulk_on(CHANNEL, message) {
                Err(error) if error.is_full() => {}
                Ok(()) => return,
                Err(_) => return peer.count_channel_dropped(1),
            }
        }
        let answers = before.unwrap_or_else(|| {
            let answers = Answers::default();
            peer.set(answers.clone());
            answers
        });
        let pushed = answers.waiting().push(inner_id(topic, &id));
        match pushed {
            None => peer.count_channel_dropped(1),
            Some(false) => {}
            Some(true) => {
                tokio::spawn(send(self.clone(), peer.clone(), answers));
            }
        }
    }
}

/// Sends what a neighbour has asked for, until there is nothing more, or it has left.
async fn send(shared: Shared, peer: Peer, answers: Answers) {
    while let Some(id) = answers.next() {
        // It may have given way to newer ones.
        let message = shared
            .with(|state, _, _| state.names.message(&id))
            .flatten();
        let sent = match message {
            Some(message) => peer.send_bulk_on(CHANNEL, message).await,
            None => continue,
        };
        if sent.is_err() {
            peer.count_channel_dropped(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_has_a_bound_and_one_task_sends_it() {
        let answers = Answers::default();
        assert_eq!(answers.waiting().push([0; 32]), Some(true));
        let mut taken = 1;
        while answers.waiting().push([1; 32]) == Some(false) {
            taken += 1;
        }
        assert_eq!(taken, ANSWERS);
        while answers.next().is_some() {}
        assert_eq!(answers.waiting().push([0; 32]), Some(true));
    }
}
