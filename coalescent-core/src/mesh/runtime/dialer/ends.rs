//! Which connections of this node lead back to it, known by the addresses of their ends: decisions
//! only.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// An IP address and a port, in the one spelling in which both ends see them.
type End = (IpAddr, u16);

fn end(addr: SocketAddr) -> End {
    (addr.ip().to_canonical(), addr.port())
}

/// Where a connection to `there` leads. To the unspecified address it leads to this machine, and
/// both addresses that stand for `localhost` are taken for one place: a node that listens there
/// does so at both.
fn place(there: SocketAddr) -> End {
    let (ip, port) = end(there);
    let localhost = ip.is_unspecified() || ip == IpAddr::V6(Ipv6Addr::LOCALHOST);
    let ip = if localhost {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    } else {
        ip
    };
    (ip, port)
}

/// What this node knows of the ends of its connections. Clones share it.
///
/// A connection that this node has made is one that it has accepted exactly if the end that was
/// made has the address that was accepted from. Which of the two is known first is chance:
/// whichever comes second finds the other. An accepted one is remembered only while a dial is under
/// way, whose end is not known yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ends(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// A dial to where this node may listen is no longer under way.
    settled: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// How many dials are under way whose end is not known yet.
    dialling: usize,
    /// How many of them to an address at which this node may listen itself.
    dialling_here: usize,
    /// By this node's end.
    dialled: HashMap<End, CancellationToken>,
    /// By the other end.
    accepted: HashMap<End, CancellationToken>,
    /// The places that connections without node numbers lead to.
    taken: HashMap<End, CancellationToken>,
}

impl Ends {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a connection is being made, until what this returns is dropped.
    pub(crate) fn dialling(&self) -> Dialling {
        self.state().dialling += 1;
        Dialling {
            ends: self.clone(),
            here: Mutex::new(false),
        }
    }

    /// Notes that a connection was made from `local`, until what this returns is dropped.
    pub(crate) fn dialled(&self, local: SocketAddr) -> Met {
        let mut state = self.state();
        let itself = CancellationToken::new();
        if let Some(accepted) = state.accepted.get(&end(local)) {
            accepted.cancel();
            itself.cancel();
        }
        state.dialled.insert(end(local), itself.clone());
        Met::new(self, Side::Dialled(end(local)), itself)
    }

    /// Notes that a connection was accepted from `addr`, until what this returns is dropped.
    pub(crate) fn accepted(&self, addr: SocketAddr) -> Met {
        let mut state = self.state();
        let itself = CancellationToken::new();
        if let Some(dialled) = state.dialled.get(&end(addr)) {
            dialled.cancel();
            itself.cancel();
        }
        let side = if state.dialling > 0 {
            state.accepted.insert(end(addr), itself.clone());
            Side::Accepted(end(addr))
        } else {
            Side::Forgotten
        };
        Met::new(self, side, itself)
    }

    /// Takes the address of a peer that has no node number, so that one connection leads there.
    ///
    /// # Errors
    ///
    /// With what is cancelled when it is free, if another connection leads there.
    pub(crate) fn take(&self, there: SocketAddr) -> Result<Taken, CancellationToken> {
        let mut state = self.state();
        if let Some(freed) = state.taken.get(&place(there)) {
            return Err(freed.clone());
        }
        let freed = CancellationToken::new();
        state.taken.insert(place(there), freed.clone());
        Ok(Taken {
            ends: self.clone(),
            there: place(there),
            freed,
        })
    }
}

/// A connection that is being made.
#[derive(Debug)]
pub(crate) struct Dialling {
    ends: Ends,
    here: Mutex<bool>,
}

impl Dialling {
    /// Notes that one of the addresses is one at which this node may listen.
    pub(crate) fn to_here(&self) {
        let mut here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut *here, true) {
            self.ends.state().dialling_here += 1;
        }
    }
}

impl Drop for Dialling {
    fn drop(&mut self) {
        let here = *self.here.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.ends.state();
        state.dialling -= 1;
        state.dialling_here -= usize::from(here);
        drop(state);
        self.ends.0.settled.notify_waiters();
    }
}

/// A connection whose end is known, and perhaps that its other end is this node's too.
#[derive(Debug)]
pub(crate) struct Met {
    ends: Ends,
    side: Side,
    itself: CancellationToken,
}

#[derive(Clone, Copy, Debug)]
enum Side {
    Dialled(End),
    Accepted(End),
    Forgotten,
}

impl Met {
    fn new(ends: &Ends, side: Side, itself: CancellationToken) -> Self {
        Self {
            ends: ends.clone(),
            side,
            itself,
        }
    }

    /// Whether both ends are this node's, as far as is known by now.
    pub(crate) fn itself(&self) -> bool {
        self.itself.is_cancelled()
    }

    /// Waits until it is known that both ends are this node's.
    pub(crate) async fn met_itself(&self) {
        self.itself.cancelled().await;
    }

    /// Waits until [`itself`](Met::itself) can no longer change, as far as dials to where this node
    /// listens go that are under way.
    pub(crate) async fn settled(&self) {
        loop {
            let settled = self.ends.0.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            if self.ends.state().dialling_here == 0 {
                return;
            }
            tokio::select! {
                () = self.itself.cancelled() => return,
                () = settled => {}
            }
        }
    }
}

impl Drop for Met {
    fn drop(&mut self) {
        let mut state = self.ends.state();
        let (map, end) = match self.side {
            Side::Dialled(end) => (&mut state.dialled, end),
            Side::Accepted(end) => (&mut state.accepted, end),
            Side::Forgotten => return,
        };
        // An address can be used again before the one that had it is dropped here.
        if map.get(&end).is_some_and(|itself| *itself == self.itself) {
            map.remove(&end);
        }
    }
}

/// The address of a peer without a node number, to which no other connection leads.
#[derive(Debug)]
pub(crate) struct Taken {
    ends: Ends,
    there: End,
    freed: CancellationToken,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.ends.state().taken.remove(&self.there);
        self.freed.cancel();
    }
}

/// Whether a connection to `there` may lead to one of the addresses at which this node listens.
pub(crate) fn may_lead_here(listening: &[SocketAddr], there: SocketAddr) -> bool {
    listening.iter().any(|at| {
        let (at, there) = (end(*at), end(there));
        at.1 == there.1 && (at.0.is_unspecified() || there.0.is_unspecified() || at.0 == there.0)
    })
}

/// Whether both ends of a connection are one socket, which met itself.
pub(crate) fn is_one_socket(here: SocketAddr, there: SocketAddr) -> bool {
    end(here) == end(there)
}

/// Whether both ends of a connection are on this machine.
pub(crate) fn is_within(here: SocketAddr, there: SocketAddr) -> bool {
    let (here, there) = (end(here).0, end(there).0);
    let local = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified();
    here == there || (local(here) && local(there))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn both_ends_know_whichever_comes_first() {
        let ends = Ends::default();
        let dialling = ends.dialling();
        let stranger = ends.accepted(addr("10.0.0.9:7"));
        let accepted = ends.accepted(addr("[::ffff:10.0.0.1]:7"));
        let made = ends.dialled(addr("10.0.0.1:7"));
        drop(dialling);
        assert!(made.itself() && accepted.itself() && !stranger.itself());
        let other = ends.dialled(addr("10.0.0.1:8"));
        assert!(!other.itself());
        let accepted = ends.accepted(addr("10.0.0.1:8"));
        assert!(other.itself() && accepted.itself());
    }

    #[test]
    fn nothing_is_kept_of_ends_that_are_gone() {
        let ends = Ends::default();
        let dialling = ends.dialling();
        let old = ends.accepted(addr("10.0.0.1:7"));
        // The same address again, before the old one is dropped.
        let new = ends.accepted(addr("10.0.0.1:7"));
        drop(old);
        let made = ends.dialled(addr("10.0.0.1:7"));
        assert!(new.itself() && made.itself());
        drop((new, made, dialling));
        let quiet = ends.accepted(addr("10.0.0.1:9"));
        let state = ends.state();
        assert!(state.accepted.is_empty() && state.dialled.is_empty());
        assert_eq!((state.dialling, state.dialling_here), (0, 0));
        drop(state);
        assert!(!quiet.itself());
    }

    #[tokio::test(start_paused = true)]
    async fn a_newcomer_waits_only_for_dials_that_may_lead_here() {
        let ends = Ends::default();
        let elsewhere = ends.dialling();
        let newcomer = ends.accepted(addr("127.0.0.1:7"));
        newcomer.settled().await;
        let here = ends.dialling();
        here.to_here();
        here.to_here();
        let limit = std::time::Duration::from_secs(1);
        assert!(
            tokio::time::timeout(limit, newcomer.settled())
                .await
                .is_err()
        );
        tokio::join!(newcomer.settled(), async { drop(here) });
        assert!(!newcomer.itself());
        let here = ends.dialling();
        here.to_here();
        let ((), made) = tokio::join!(newcomer.settled(), async {
            ends.dialled(addr("127.0.0.1:7"))
        });
        assert!(newcomer.itself() && made.itself());
        drop(elsewhere);
    }

    #[tokio::test]
    async fn an_address_is_taken_once_until_it_is_free() {
        let ends = Ends::default();
        let there = addr("10.0.0.1:7");
        let taken = ends.take(there).unwrap();
        ends.take(addr("10.0.0.1:8")).unwrap();
        let freed = ends.take(there).unwrap_err();
        assert!(!freed.is_cancelled());
        drop(taken);
        freed.cancelled().await;
        ends.take(there).unwrap();
        let localhost = ends.take(addr("[::1]:7")).unwrap();
        for there in ["127.0.0.1:7", "0.0.0.0:7", "[::]:7", "[::ffff:127.0.0.1]:7"] {
            assert!(ends.take(addr(there)).is_err(), "{there}");
        }
        ends.take(addr("127.0.0.2:7")).unwrap();
        drop(localhost);
        ends.take(addr("127.0.0.1:7")).unwrap();
    }

    #[test]
    fn only_an_address_that_is_listened_at_may_lead_here() {
        let listening = [addr("10.0.0.1:7"), addr("0.0.0.0:9")];
        for (there, here) in [
            ("10.0.0.1:7", true),
            ("[::ffff:10.0.0.1]:7", true),
            ("10.0.0.1:8", false),
            ("10.0.0.2:7", false),
            ("10.0.0.2:9", true),
            ("[::1]:9", true),
            ("0.0.0.0:7", true),
            ("0.0.0.0:8", false),
        ] {
            assert_eq!(may_lead_here(&listening, addr(there)), here, "{there}");
        }
        assert!(is_within(addr("127.0.0.1:1"), addr("127.0.0.2:2")));
        assert!(is_within(addr("127.0.0.1:1"), addr("0.0.0.0:2")));
        assert!(is_within(addr("10.0.0.1:1"), addr("10.0.0.1:2")));
        assert!(!is_within(addr("10.0.0.1:1"), addr("10.0.0.2:1")));
    }
}
