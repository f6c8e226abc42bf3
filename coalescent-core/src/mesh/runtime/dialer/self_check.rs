//! Which connections of this node lead back to it, found by the addresses of their ends.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::addresses::{CanonicalAddr, canonical};

/// Compares the connections that this node dials with those that it accepts. Clones share what is
/// known.
///
/// A dialled connection and an accepted one are the two ends of one connection exactly if the local
/// address of the former is the remote address of the latter. Either end may become known first:
/// the second to become known finds the first. Accepted connections are remembered only while a
/// dial is in progress whose local address is not known yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct SelfChecks(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Notified when a dial is no longer in progress.
    settled: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// How many dials are in progress whose local address is not known yet.
    dialling: usize,
    /// How many of them are to an address at which this node may listen.
    dialling_here: usize,
    /// Dialled connections, by their local address.
    dialled: HashMap<CanonicalAddr, CancellationToken>,
    /// Accepted connections, by their remote address.
    accepted: HashMap<CanonicalAddr, CancellationToken>,
}

impl SelfChecks {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a connection is being dialled, until the result is dropped.
    pub(crate) fn dialling(&self) -> Dialling {
        self.state().dialling += 1;
        Dialling {
            checks: self.clone(),
            here: Mutex::new(false),
        }
    }

    /// Adds a connection that was dialled from `local`, until the result is dropped.
    pub(crate) fn dialled(&self, local: SocketAddr) -> SelfCheck {
        let local = canonical(local);
        let mut state = self.state();
        let itself = CancellationToken::new();
        if let Some(accepted) = state.accepted.get(&local) {
            accepted.cancel();
            itself.cancel();
        }
        state.dialled.insert(local, itself.clone());
        SelfCheck::new(self, Side::Dialled(local), itself)
    }

    /// Adds a connection that was accepted from `remote`, until the result is dropped.
    pub(crate) fn accepted(&self, remote: SocketAddr) -> SelfCheck {
        let remote = canonical(remote);
        let mut state = self.state();
        let itself = CancellationToken::new();
        if let Some(dialled) = state.dialled.get(&remote) {
            dialled.cancel();
            itself.cancel();
        }
        let side = if state.dialling > 0 {
            state.accepted.insert(remote, itself.clone());
            Side::Accepted(remote)
        } else {
            Side::NotRemembered
        };
        SelfCheck::new(self, side, itself)
    }
}

/// A dial in progress, whose local address is not known yet.
#[derive(Debug)]
pub(crate) struct Dialling {
    checks: SelfChecks,
    /// Whether it is counted in `dialling_here`.
    here: Mutex<bool>,
}

impl Dialling {
    /// Notes that one of the addresses that are tried is one at which this node may listen.
    pub(crate) fn may_lead_here(&self) {
        let mut here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut *here, true) {
            self.checks.state().dialling_here += 1;
        }
    }
}

impl Drop for Dialling {
    fn drop(&mut self) {
        let here = *self.here.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.checks.state();
        state.dialling -= 1;
        state.dialling_here -= usize::from(here);
        drop(state);
        self.checks.0.settled.notify_waiters();
    }
}

/// One connection, and whether its other end is this node too.
#[derive(Debug)]
pub(crate) struct SelfCheck {
    checks: SelfChecks,
    side: Side,
    /// Cancelled when both ends are known to be this node's.
    itself: CancellationToken,
}

/// The map that a connection is in.
#[derive(Clone, Copy, Debug)]
enum Side {
    Dialled(CanonicalAddr),
    Accepted(CanonicalAddr),
    NotRemembered,
}

impl SelfCheck {
    fn new(checks: &SelfChecks, side: Side, itself: CancellationToken) -> Self {
        Self {
            checks: checks.clone(),
            side,
            itself,
        }
    }

    /// Whether both ends are this node's, as far as is known by now.
    pub(crate) fn is_itself(&self) -> bool {
        self.itself.is_cancelled()
    }

    /// Waits until both ends are known to be this node's: forever, if they are not.
    pub(crate) async fn found_itself(&self) {
        self.itself.cancelled().await;
    }

    /// Waits until no dial in progress can change [`is_itself`](SelfCheck::is_itself) any more.
    /// Only dials to addresses at which this node may listen are waited for.
    pub(crate) async fn settled(&self) {
        loop {
            let settled = self.checks.0.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            if self.checks.state().dialling_here == 0 {
                return;
            }
            tokio::select! {
                () = self.itself.cancelled() => return,
                () = settled => {}
            }
        }
    }
}

impl Drop for SelfCheck {
    fn drop(&mut self) {
        let mut state = self.checks.state();
        let (map, end) = match self.side {
            Side::Dialled(end) => (&mut state.dialled, end),
            Side::Accepted(end) => (&mut state.accepted, end),
            Side::NotRemembered => return,
        };
        // A new connection may have the same address before the old one is dropped here.
        if map.get(&end).is_some_and(|itself| *itself == self.itself) {
            map.remove(&end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn both_ends_find_out_whichever_becomes_known_first() {
        let checks = SelfChecks::default();
        let dialling = checks.dialling();
        let stranger = checks.accepted(addr("10.0.0.9:7"));
        let accepted = checks.accepted(addr("[::ffff:10.0.0.1]:7"));
        let made = checks.dialled(addr("10.0.0.1:7"));
        drop(dialling);
        assert!(made.is_itself() && accepted.is_itself() && !stranger.is_itself());
        let other = checks.dialled(addr("10.0.0.1:8"));
        assert!(!other.is_itself());
        let accepted = checks.accepted(addr("10.0.0.1:8"));
        assert!(other.is_itself() && accepted.is_itself());
    }

    #[test]
    fn closed_connections_are_forgotten() {
        let checks = SelfChecks::default();
        let dialling = checks.dialling();
        let old = checks.accepted(addr("10.0.0.1:7"));
        // The same address again, before the old connection is dropped.
        let new = checks.accepted(addr("10.0.0.1:7"));
        drop(old);
        let made = checks.dialled(addr("10.0.0.1:7"));
        assert!(new.is_itself() && made.is_itself());
        drop((new, made, dialling));
        let quiet = checks.accepted(addr("10.0.0.1:9"));
        let state = checks.state();
        assert!(state.accepted.is_empty() && state.dialled.is_empty());
        assert_eq!((state.dialling, state.dialling_here), (0, 0));
        drop(state);
        assert!(!quiet.is_itself());
    }

    #[tokio::test(start_paused = true)]
    async fn a_newcomer_waits_only_for_dials_that_may_lead_here() {
        let checks = SelfChecks::default();
        let elsewhere = checks.dialling();
        let newcomer = checks.accepted(addr("127.0.0.1:7"));
        newcomer.settled().await;
        let here = checks.dialling();
        here.may_lead_here();
        here.may_lead_here();
        let limit = std::time::Duration::from_secs(1);
        assert!(
            tokio::time::timeout(limit, newcomer.settled())
                .await
                .is_err()
        );
        tokio::join!(newcomer.settled(), async { drop(here) });
        assert!(!newcomer.is_itself());
        let here = checks.dialling();
        here.may_lead_here();
        let ((), made) = tokio::join!(newcomer.settled(), async {
            checks.dialled(addr("127.0.0.1:7"))
        });
        assert!(newcomer.is_itself() && made.is_itself());
        drop(elsewhere);
    }
}
