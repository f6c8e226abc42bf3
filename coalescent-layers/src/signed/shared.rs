//! What all services of one layer share: the window, the counters and the clocks.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use coalescent_core::Message;
use coalescent_core::identity::Author;
use coalescent_core::transport::tls::Allow;

use super::bytes::{self, Signature};
use super::stats::SignedStats;
use super::window::{Limits, Now, Stale, Stamp, Window};

/// What is known about who has said a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    Unsigned,
    Valid(Author),
    /// The signature does not prove anything.
    Invalid,
    NotAllowed,
    Stale(Stale),
}

/// Checks the signature of a message, but neither its time nor whether it was heard before.
pub(super) fn verify(signature: &Signature, network: &str, message: &Message) -> Option<Author> {
    let Signature { author, at, sig } = signature;
    let signed = bytes::signed(network, message, *at).ok()?;
    author
        .verify(&signed, sig)
        .then(|| Author::new(*author, *at))
}

#[derive(Debug)]
pub(super) struct Shared {
    window: Mutex<Window>,
    started: Instant,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    valid: AtomicU64,
    unsigned: AtomicU64,
    invalid: AtomicU64,
    not_allowed: AtomicU64,
    untimely: AtomicU64,
    replayed: AtomicU64,
    crowded: AtomicU64,
}

impl Shared {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            window: Mutex::new(Window::new(limits)),
            started: Instant::now(),
            counters: Counters::default(),
        }
    }

    pub(super) fn now(&self) -> Now {
        let millis =
            |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        Now {
            // Before 1970 nothing is fresh, which is as good as any other answer.
            wall: wall.map(millis).unwrap_or(0),
            steady: millis(self.started.elapsed()),
        }
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a message that this node itself has signed.
    pub(super) fn said(&self, signature: &Signature, now: Now) {
        let stamp = Stamp::new(signature.author, signature.at, &signature.sig);
        // It is sent whatever the window says.
        let _ = self.window().insert(&stamp, now);
    }

    /// Finds out who has said a message, and counts it.
    pub(super) fn judge(&self, network: &str, message: &Message, allow: &Allow) -> Finding {
        let finding = self.find(network, message, allow, self.now());
        let counters = &self.counters;
        let counter = match finding {
            Finding::Valid(_) => &counters.valid,
            Finding::Unsigned => &counters.unsigned,
            Finding::Invalid => &counters.invalid,
            Finding::NotAllowed => &counters.not_allowed,
            Finding::Stale(Stale::Late | Stale::Early) => &counters.untimely,
            Finding::Stale(Stale::Replayed) => &counters.replayed,
            Finding::Stale(Stale::Crowded) => &counters.crowded,
        };
        counter.fetch_add(1, Relaxed);
        finding
    }

    pub(super) fn find(
        &self,
        network: &str,
        message: &Message,
        allow: &Allow,
        now: Now,
    ) -> Finding {
        let signature = match Signature::of(message) {
            Ok(Some(signature)) => signature,
            Ok(None) => return Finding::Unsigned,
            Err(_) => return Finding::Invalid,
        };
        // What costs least comes first: a flood of replays costs a look-up each.
        if !allow.contains(&signature.author) {
            return Finding::NotAllowed;
        }
        let stamp = Stamp::new(signature.author, signature.at, &signature.sig);
        if let Err(stale) = self.window().check(&stamp, now) {
            return Finding::Stale(stale);
        }
        // Without the lock, since it takes long.
        let Some(author) = verify(&signature, network, message) else {
            return Finding::Invalid;
        };
        match self.window().insert(&stamp, now) {
            Ok(()) => Finding::Valid(author),
            Err(stale) => Finding::Stale(stale),
        }
    }

    pub(super) fn stats(&self) -> SignedStats {
        let counters = &self.counters;
        SignedStats {
            valid: counters.valid.load(Relaxed),
            unsigned: counters.unsigned.load(Relaxed),
            invalid: counters.invalid.load(Relaxed),
            not_allowed: counters.not_allowed.load(Relaxed),
            untimely: counters.untimely.load(Relaxed),
            replayed: counters.replayed.load(Relaxed),
            crowded: counters.crowded.load(Relaxed),
            remembered: self.window().len(),
        }
    }
}
