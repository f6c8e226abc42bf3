//! Who has heard which message, when, and over how many hops.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

/// The ledger of one swarm. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    messages: Vec<Message>,
    deliveries: u64,
    /// Deliveries of what the node had heard before, or of what nobody has sent.
    odd: u64,
}

#[derive(Debug)]
struct Message {
    sent: Instant,
    /// A bit for each node that should hear it, and has not.
    missing: Vec<u64>,
    expected: u64,
    heard: u64,
    last_hop: u8,
    last: Duration,
}

/// What became of some messages.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Heard {
    pub(super) expected: u64,
    pub(super) heard: u64,
    /// The most hops that any delivery took.
    pub(super) last_hop: u8,
    /// The mean, over the messages, of the most hops that a delivery of it took.
    pub(super) mean_last_hop: f64,
    /// The time until the last delivery, at most and in the mean over the messages.
    pub(super) last: Duration,
    pub(super) mean_last: Duration,
}

const BITS: usize = u64::BITS as usize;

impl Ledger {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a message that is about to be sent, and returns its payload of this size.
    pub(super) fn send(&self, size: usize, to: impl IntoIterator<Item = usize>) -> Bytes {
        let mut missing = Vec::new();
        let mut expected = 0;
        for node in to {
            let word = node / BITS;
            if missing.len() <= word {
                missing.resize(word + 1, 0);
            }
            missing[word] |= 1_u64 << (node % BITS);
            expected += 1;
        }
        let mut entries = self.entries();
        let number = entries.messages.len() as u64;
        entries.messages.push(Message {
            sent: Instant::now(),
            missing,
            expected,
            heard: 0,
            last_hop: 0,
            last: Duration::ZERO,
        });
        let mut payload = vec![0x5a; size.max(8)];
        payload[..8].copy_from_slice(&number.to_be_bytes());
        payload.into()
    }

    /// Notes what a node has heard: payloads, and the hops that each took.
    pub(super) fn hear<'a>(&self, node: usize, heard: impl Iterator<Item = (&'a [u8], u8)>) {
        let now = Instant::now();
        let (word, bit) = (node / BITS, 1_u64 << (node % BITS));
        let mut entries = self.entries();
        let Entries {
            messages,
            deliveries,
            odd,
        } = &mut *entries;
        for (payload, hops) in heard {
            let number = payload
                .first_chunk()
                .map(|chunk| u64::from_be_bytes(*chunk));
            let message = number.and_then(|number| messages.get_mut(usize::try_from(number).ok()?));
            let missing = message.and_then(|message| {
                let missing = message.missing.get_mut(word)?;
                (*missing & bit != 0).then(|| *missing &= !bit)?;
                Some(message)
            });
            let Some(message) = missing else {
                *odd += 1;
                continue;
            };
            *deliveries += 1;
            message.heard += 1;
            message.last_hop = message.last_hop.max(hops);
            message.last = now.saturating_duration_since(message.sent);
        }
    }

    /// Returns how many messages were sent so far.
    pub(super) fn sent(&self) -> usize {
        self.entries().messages.len()
    }

    /// Returns how many deliveries there were so far.
    pub(super) fn deliveries(&self) -> u64 {
        self.entries().deliveries
    }

    /// Returns how often a node got what it had, or what was not for it.
    pub(super) fn odd(&self) -> u64 {
        self.entries().odd
    }

    /// Returns what became of the messages from this one on.
    pub(super) fn since(&self, first: usize) -> Heard {
        let entries = self.entries();
        let messages = entries.messages.get(first..).unwrap_or_default();
        let mut sum = Heard::default();
        for message in messages {
            sum.expected += message.expected;
            sum.heard += message.heard;
            sum.last_hop = sum.last_hop.max(message.last_hop);
            sum.mean_last_hop += f64::from(message.last_hop);
            sum.last = sum.last.max(message.last);
            sum.mean_last += message.last;
        }
        let count = u32::try_from(messages.len()).unwrap_or(u32::MAX).max(1);
        sum.mean_last_hop /= f64::from(count);
        sum.mean_last /= count;
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_tells_what_is_missing_and_what_came_twice() {
        let ledger = Ledger::default();
        let first = ledger.send(64, [1, 2, 70]);
        let second = ledger.send(64, [1, 2]);
        tokio::time::advance(Duration::from_millis(5)).await;
        ledger.hear(1, [(&first[..], 1), (&second[..], 1)].into_iter());
        ledger.hear(70, [(&first[..], 3), (&first[..], 2)].into_iter());
        // It was not for this one.
        ledger.hear(3, [(&second[..], 1)].into_iter());
        let all = ledger.since(0);
        assert_eq!((all.expected, all.heard, all.last_hop), (5, 3, 3));
        assert_eq!(all.last, Duration::from_millis(5));
        assert_eq!((ledger.deliveries(), ledger.odd()), (3, 2));
        let last = ledger.since(1);
        assert_eq!((last.expected, last.heard, last.last_hop), (2, 1, 1));
        assert_eq!(ledger.sent(), 2);
    }
}
