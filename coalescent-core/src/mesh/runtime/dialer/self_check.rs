//! Which connections of this node lead back to it, found by the addresses of their ends.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::addresses::{CanonicalAddr, canonical, destination};
use crate::error::Error;

/// Compares the connections that this node dials with those that it accepts. Clones share what is
/// known.
///
/// A dialled connection and an accepted one are the two ends of one connection if both addresses of
/// the one are those of the other. If they share the address of the side that has dialled alone,
/// they may be: either a rule has changed where the connection leads, or the system has given the
/// same local port to connections with different destinations. The node numbers then decide, on
/// wires that have some; on others the two are taken for different connections.
///
/// Either end may become known first: the second to become known finds the first. An accepted
/// connection is remembered only if a dial is in progress then whose local address is not known
/// yet.
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
    dialled: Ends<SocketAddr>,
    accepted: Ends<Here>,
}

/// Where a connection was accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Here {
    /// At this address, which may be every one of a port.
    At(SocketAddr),
    /// That is not known, but the nodes at both ends have numbers.
    Unknown,
    /// That is not known, and nodes have no numbers: it may be anywhere.
    Anywhere,
}

impl Here {
    /// Makes one of what is known.
    pub(crate) fn new(addr: Option<SocketAddr>, has_numbers: bool) -> Self {
        match addr {
            Some(addr) => Self::At(addr),
            None if has_numbers => Self::Unknown,
            None => Self::Anywhere,
        }
    }
}

/// Connections by the address of the side that has dialled. `T` is the address of the other side.
type Ends<T> = HashMap<CanonicalAddr, Vec<(T, Arc<Finding>)>>;

/// What is known of the other end of a connection.
#[derive(Debug, Default)]
struct Finding {
    /// Cancelled when it is this node.
    itself: CancellationToken,
    /// Whether it may be this node.
    may_be_itself: AtomicBool,
}

impl Finding {
    /// Compares one that was dialled to `there` with one that was accepted at `here`, from the same
    /// address.
    fn compare(&self, there: SocketAddr, accepted: &Self, here: Here) {
        let is_itself = match here {
            Here::At(here) => leads_to(there, here),
            Here::Unknown => false,
            Here::Anywhere => true,
        };
        for side in [self, accepted] {
            side.may_be_itself.store(true, Relaxed);
            if is_itself {
                side.itself.cancel();
            }
        }
    }
}

/// Whether who dials `there` reaches what listens at `here`, which may be every address of a port.
fn leads_to(there: SocketAddr, here: SocketAddr) -> bool {
    let is_everywhere = here.ip().to_canonical().is_unspecified();
    (is_everywhere && here.port() == there.port()) || destination(here) == destination(there)
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

    /// Adds a connection that was dialled from `local` to `there`, until the result is dropped.
    pub(crate) fn dialled(&self, local: SocketAddr, there: SocketAddr) -> SelfCheck {
        let local = canonical(local);
        let mut state = self.state();
        let dialled = Arc::new(Finding::default());
        for (here, accepted) in state.accepted.get(&local).into_iter().flatten() {
            dialled.compare(there, accepted, *here);
        }
        let ends = state.dialled.entry(local).or_default();
        ends.push((there, Arc::clone(&dialled)));
        SelfCheck::new(self, Side::Dialled(local), dialled)
    }

    /// Adds a connection that was accepted from `remote` at `here`, until the result is dropped.
    pub(crate) fn accepted(&self, remote: SocketAddr, here: Here) -> SelfCheck {
        let remote = canonical(remote);
        let mut state = self.state();
        let accepted = Arc::new(Finding::default());
        for (there, dialled) in state.dialled.get(&remote).into_iter().flatten() {
            dialled.compare(*there, &accepted, here);
        }
        let side = if state.dialling > 0 {
            let ends = state.accepted.entry(remote).or_default();
            ends.push((here, Arc::clone(&accepted)));
            Side::Accepted(remote)
        } else {
            Side::NotRemembered
        };
        SelfCheck::new(self, side, accepted)
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
    finding: Arc<Finding>,
}

/// The map that a connection is in.
#[derive(Clone, Copy, Debug)]
enum Side {
    Dialled(CanonicalAddr),
    Accepted(CanonicalAddr),
    NotRemembered,
}

impl SelfCheck {
    fn new(checks: &SelfChecks, side: Side, finding: Arc<Finding>) -> Self {
        Self {
            checks: checks.clone(),
            side,
            finding,
        }
    }

    /// Whether both ends are this node's, as far as is known by now.
    pub(crate) fn is_itself(&self) -> bool {
        self.finding.itself.is_cancelled()
    }

    /// Whether both ends may be this node's: they are if the node numbers are the same.
    pub(crate) fn may_be_itself(&self) -> bool {
        self.finding.may_be_itself.load(Relaxed)
    }

    /// Whether a handshake has failed because both ends are this node's. The end that finds out
    /// first closes the connection, and says nothing.
    pub(crate) fn is_told_by(&self, error: &Error) -> bool {
        self.is_itself() || (self.may_be_itself() && error.is_handshake())
    }

    /// Waits until both ends are known to be this node's: forever, if they are not.
    pub(crate) async fn found_itself(&self) {
        self.finding.itself.cancelled().await;
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
                () = self.found_itself() => return,
                () = settled => {}
            }
        }
    }
}

impl Drop for SelfCheck {
    fn drop(&mut self) {
        let mut state = self.checks.state();
        match self.side {
            Side::Dialled(end) => remove(&mut state.dialled, end, &self.finding),
            Side::Accepted(end) => remove(&mut state.accepted, end, &self.finding),
            Side::NotRemembered => {}
        }
    }
}

fn remove<T>(ends: &mut Ends<T>, end: CanonicalAddr, finding: &Arc<Finding>) {
    if let Some(connections) = ends.get_mut(&end) {
        connections.retain(|(_, other)| !Arc::ptr_eq(other, finding));
        if connections.is_empty() {
            ends.remove(&end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// Where this node listens.
    const HERE: &str = "10.0.0.1:1";

    fn dialled(checks: &SelfChecks, local: &str) -> SelfCheck {
        checks.dialled(addr(local), addr(HERE))
    }

    fn accepted(checks: &SelfChecks, remote: &str) -> SelfCheck {
        checks.accepted(addr(remote), Here::At(addr(HERE)))
    }

    #[test]
    fn both_ends_find_out_whichever_becomes_known_first() {
        let checks = SelfChecks::default();
        let dialling = checks.dialling();
        let stranger = accepted(&checks, "10.0.0.9:7");
        let came = accepted(&checks, "[::ffff:10.0.0.1]:7");
        let made = dialled(&checks, "10.0.0.1:7");
        drop(dialling);
        assert!(made.is_itself() && came.is_itself() && !stranger.is_itself());
        let other = dialled(&checks, "10.0.0.1:8");
        assert!(!other.is_itself());
        let came = accepted(&checks, "10.0.0.1:8");
        assert!(other.is_itself() && came.is_itself());
    }

    /// The kernel gives the same local port to connections with different destinations.
    #[test]
    fn connections_that_share_a_local_port_are_told_apart() {
        let elsewhere = ["10.0.0.1:2", "10.0.0.2:1"];
        for there in elsewhere {
            let checks = SelfChecks::default();
            let dialling = checks.dialling();
            let before = accepted(&checks, "10.0.0.1:7");
            let away = checks.dialled(addr("10.0.0.1:7"), addr(there));
            let after = accepted(&checks, "10.0.0.1:7");
            assert!(!before.is_itself() && !away.is_itself() && !after.is_itself());
            // A rule may have brought it here all the same.
            assert!(before.may_be_itself() && away.may_be_itself() && after.may_be_itself());
            // One more is forgotten without the others.
            drop(away);
            let home = dialled(&checks, "10.0.0.1:7");
            assert!(before.is_itself() && home.is_itself() && after.is_itself());
            drop(dialling);
        }
    }

    #[test]
    fn a_connection_leads_to_who_listens_at_its_address_or_everywhere() {
        for (there, here, leads) in [
            ("127.0.0.1:1", "0.0.0.0:1", true),
            ("127.0.0.1:1", "[::]:1", true),
            ("127.0.0.1:2", "[::]:1", false),
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("[::]:1", "[::1]:1", true),
            ("[::ffff:10.0.0.1]:1", "10.0.0.1:1", true),
            ("10.0.0.2:1", "10.0.0.1:1", false),
        ] {
            assert_eq!(leads_to(addr(there), addr(here)), leads, "{there} {here}");
        }
    }

    #[test]
    fn where_it_is_not_known_numbers_decide_if_there_are_any() {
        for has_numbers in [true, false] {
            let checks = SelfChecks::default();
            let made = dialled(&checks, "10.0.0.1:7");
            let came = checks.accepted(addr("10.0.0.1:7"), Here::new(None, has_numbers));
            for end in [made, came] {
                assert!(end.may_be_itself());
                assert_eq!(end.is_itself(), !has_numbers);
                assert!(end.is_told_by(&Error::unanswered("it was closed")));
                assert_eq!(end.is_told_by(&Error::refused("no room")), !has_numbers);
            }
        }
    }

    #[test]
    fn closed_connections_are_forgotten() {
        let checks = SelfChecks::default();
        let dialling = checks.dialling();
        let old = accepted(&checks, "10.0.0.1:7");
        // The same address again, before the old connection is dropped.
        let new = accepted(&checks, "10.0.0.1:7");
        drop(old);
        let made = dialled(&checks, "10.0.0.1:7");
        assert!(new.is_itself() && made.is_itself());
        drop((new, made, dialling));
        let quiet = accepted(&checks, "10.0.0.1:9");
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
        let newcomer = accepted(&checks, "127.0.0.1:7");
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
            dialled(&checks, "127.0.0.1:7")
        });
        assert!(newcomer.is_itself() && made.is_itself());
        drop(elsewhere);
    }
}
