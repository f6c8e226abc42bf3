//! Signing what this node says.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use coalescent_core::Message;
use coalescent_core::codec::{CodecError, Seal};
use coalescent_core::identity::Identity;

use super::bytes::{self, SIG, Signature, TooLong};
use super::shared::Shared;
use super::window::{JUMP, Now};

/// How far the times of messages may run ahead of the clock, in milliseconds: a third of what
/// receivers take.
const AHEAD_MAX: u64 = 10_000;

/// How many messages may have the same time.
const SAME_TIME_MAX: usize = 4096;

/// Chooses the times of messages so that no two equal messages have the same.
///
/// Equal messages of the same time have the same signature, and receivers would take the second for
/// a replay.
#[derive(Debug, Default)]
pub(super) struct Times {
    at: u64,
    /// Digests of the messages that have this time.
    said: HashSet<u64>,
    last: Option<Now>,
}

/// The times would run too far ahead of the clock.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooFast;

impl Times {
    /// Returns the time for a message with this digest, in milliseconds since 1970.
    pub(super) fn next(&mut self, digest: u64, now: Now) -> Result<u64, TooFast> {
        let jumped_back = |last| now.wall.saturating_add(JUMP) < now.expected(last);
        if now.wall > self.at || self.last.replace(now).is_some_and(jumped_back) {
            self.at = now.wall;
            self.said.clear();
        }
        self.last = Some(now);
        if self.said.len() >= SAME_TIME_MAX || self.said.contains(&digest) {
            let next = self.at.saturating_add(1);
            if next > now.wall.saturating_add(AHEAD_MAX) {
                return Err(TooFast);
            }
            self.at = next;
            self.said.clear();
        }
        self.said.insert(digest);
        Ok(self.at)
    }
}

/// The key of a node, and the times that it has given to messages.
#[derive(Debug)]
pub(super) struct Signer {
    identity: Identity,
    hasher: RandomState,
    times: Mutex<Times>,
    shared: Arc<Shared>,
}

impl Signer {
    pub(super) fn new(identity: Identity, shared: Arc<Shared>) -> Self {
        Self {
            identity,
            hasher: RandomState::new(),
            times: Mutex::default(),
            shared,
        }
    }

    /// Signs a message, unless it is signed already.
    fn sign(&self, network: &str, message: Message) -> Result<Message, CodecError> {
        if message.headers().any(|key| key == SIG) {
            return Ok(message);
        }
        let digest = self
            .hasher
            .hash_one((message.kind_bytes(), bytes::body(&message)));
        let now = self.shared.now();
        let at = self
            .times
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next(digest, now)
            .map_err(|TooFast| {
                CodecError::unsealable(
                    "equal messages are signed faster than their times tell them apart, 1000 a \
                     second: make them differ, for example by a number",
                )
            })?;
        let signed = bytes::signed(network, &message, at).map_err(|TooLong| {
            CodecError::unsealable(
                "the type or the network's name is longer than the 65,535 bytes that can be \
                 signed: choose a shorter one",
            )
        })?;
        let signature = Signature {
            author: self.identity.id(),
            at,
            sig: self.identity.sign(&signed),
        };
        // Whoever sends it back does not make this node hear itself.
        self.shared.said(&signature, now);
        Ok(signature.add_to(message))
    }
}

/// The signer of one app, which signs for its network.
#[derive(Debug)]
pub(super) struct AppSigner {
    pub(super) signer: Signer,
    /// Known when the app starts.
    pub(super) network: Arc<OnceLock<String>>,
}

impl Seal for AppSigner {
    fn seal(&self, message: Message) -> Result<Message, CodecError> {
        match self.network.get() {
            Some(network) => self.signer.sign(network, message),
            None => Err(CodecError::unsealable(
                "the app has not started, so its network is not known yet",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(millis: u64) -> Now {
        Now {
            wall: 1_000_000 + millis,
            steady: millis,
        }
    }

    #[test]
    fn different_messages_share_a_time_and_equal_ones_do_not() {
        let mut times = Times::default();
        let at = times.next(1, now(0)).unwrap();
        assert_eq!(at, 1_000_000);
        assert_eq!(times.next(2, now(0)), Ok(at));
        assert_eq!(times.next(1, now(0)), Ok(at + 1));
        assert_eq!(times.next(2, now(0)), Ok(at + 1));
        assert_eq!(times.next(2, now(1)), Ok(at + 2));
        assert_eq!(times.next(2, now(9)), Ok(at + 9));
    }

    #[test]
    fn times_run_ahead_of_the_clock_only_so_far() {
        let mut times = Times::default();
        for ahead in 0..=AHEAD_MAX {
            assert_eq!(times.next(1, now(0)), Ok(1_000_000 + ahead));
        }
        assert_eq!(times.next(1, now(0)), Err(TooFast));
        assert_eq!(times.next(2, now(0)), Ok(1_000_000 + AHEAD_MAX));
        assert_eq!(times.next(1, now(1)), Ok(1_000_001 + AHEAD_MAX));
    }

    #[test]
    fn what_is_remembered_of_one_time_is_bounded() {
        let mut times = Times::default();
        for digest in 0..100_000 {
            times.next(digest, now(0)).unwrap();
            assert!(times.said.len() <= SAME_TIME_MAX);
        }
        assert_eq!(times.at, 1_000_000 + 100_000 / SAME_TIME_MAX as u64);
    }

    #[test]
    fn a_clock_that_was_ahead_is_followed_back() {
        let mut times = Times::default();
        let ahead = Now {
            wall: 9_000_000,
            steady: 5,
        };
        assert_eq!(times.next(1, ahead), Ok(9_000_000));
        assert_eq!(times.next(1, now(6)), Ok(1_000_006));
        assert_eq!(times.next(1, now(6)), Ok(1_000_007));
    }
}
