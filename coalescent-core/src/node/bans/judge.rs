//! What a node asks of its bans, and what the faults of a peer lead to.

use std::collections::HashMap;
use std::net::IpAddr;
#[cfg(feature = "tls")]
use std::sync::OnceLock;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::table::{Lengths, Table};
use super::{Ban, BanTarget};
use crate::config::Config;
use crate::node::Node;
use crate::node::event::Event;
use crate::node::peer::budget::{Budget, Faults, WINDOW};
use crate::node::peer::{Introduction, Peer, PeerId};
use crate::reason::DisconnectReason;
use crate::transport::group::NetGroup;
#[cfg(feature = "tls")]
use crate::transport::identity::PublicKey;
#[cfg(feature = "tls")]
use crate::transport::tls::Allow;

/// Of how many keys and addresses faults are remembered that were not enough for a ban: 1,024, each
/// for a minute. A new one replaces the oldest.
const MAX_FAULTY: usize = 1024;

/// Whom a node lets in no more, and whom it does not trust yet.
#[derive(Debug)]
pub(in crate::node) struct Judge {
    state: Mutex<State>,
    /// The keys that are exempt, if the app has a list of peers.
    #[cfg(feature = "tls")]
    vouched: OnceLock<Allow>,
}

#[derive(Debug)]
struct State {
    table: Table,
    /// What is held against those who have left.
    faulty: HashMap<BanTarget, Faults>,
}

impl Judge {
    pub(in crate::node) fn new(config: &Config) -> Self {
        let lengths = Lengths {
            first: config.ban,
            max: config.ban_max,
        };
        Self {
            state: Mutex::new(State {
                table: Table::new(lengths),
                faulty: HashMap::new(),
            }),
            #[cfg(feature = "tls")]
            vouched: OnceLock::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No change of it can panic halfway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the app's list of peers names this key.
    fn vouches_for(&self, key: &[u8; 32]) -> bool {
        #[cfg(feature = "tls")]
        if let Some(vouched) = self.vouched.get() {
            return PublicKey::from_bytes(*key).is_ok_and(|key| vouched.names(&key));
        }
        #[cfg(not(feature = "tls"))]
        let _ = key;
        false
    }
}

impl State {
    fn remember(&mut self, target: BanTarget, faults: Faults, now: Instant) {
        if !self.faulty.contains_key(&target) && self.faulty.len() >= MAX_FAULTY {
            let recent = |faults: &Faults| now.saturating_duration_since(faults.at()) < WINDOW;
            self.faulty.retain(|_, faults| recent(faults));
            if self.faulty.len() >= MAX_FAULTY {
                let oldest = self.faulty.iter().min_by_key(|(_, faults)| faults.at());
                let oldest = oldest.map(|(target, _)| *target);
                oldest.and_then(|oldest| self.faulty.remove(&oldest));
            }
        }
        self.faulty.insert(target, faults);
    }
}

/// Returns what is known of who is at the other end: its key, and its address. Those of this
/// machine are shared by all who are on it.
fn targets(key: Option<[u8; 32]>, ip: Option<IpAddr>) -> impl Iterator<Item = BanTarget> {
    let address = ip.map(BanTarget::from);
    let address = address.filter(|address| !address.is_loopback());
    key.map(BanTarget::Key).into_iter().chain(address)
}

impl Node {
    /// Exempts the keys on this list from bans.
    #[cfg(feature = "tls")]
    pub(crate) fn set_vouched(&self, list: Allow) {
        let _ = self.judge.vouched.set(list);
    }

    /// Returns whether nobody can ban this target.
    pub(crate) fn is_exempt(&self, target: BanTarget) -> bool {
        match target {
            BanTarget::Key(key) => self.judge.vouches_for(&key),
            BanTarget::Ip(_) => target.is_loopback(),
        }
    }

    /// Returns for how long a connection from or to this address, with this proven key, is banned.
    pub(crate) fn banned(&self, key: Option<&[u8; 32]>, ip: Option<IpAddr>) -> Option<Duration> {
        let now = Instant::now();
        let state = self.judge.state();
        if state.table.is_empty() {
            return None;
        }
        let left = targets(key.copied(), ip).filter(|target| !self.is_exempt(*target));
        left.filter_map(|target| state.table.left(target, now))
            .max()
    }

    /// Returns for how long this peer is banned.
    pub(crate) fn banned_peer(&self, peer: &Peer) -> Option<Duration> {
        let (key, ip) = (key_of(peer), peer.addr().map(|addr| addr.ip()));
        self.banned(key.as_ref(), ip)
    }

    /// Bans whom the application says, tells so, and disconnects those who are connected.
    pub(crate) fn ban(&self, ban: Ban) -> Ban {
        let ban = self.judge.state().table.ban(ban, Instant::now());
        let (peer, addr) = match ban.target {
            BanTarget::Key(key) => (Some(PeerId::Key(key)), None),
            BanTarget::Ip(ip) => (None, Some((ip, 0).into())),
        };
        self.emit(Event::Banned {
            peer,
            addr,
            reason: ban.reason.clone(),
            duration: ban.left,
        });
        self.cast_out(ban.target, &ban.reason);
        ban
    }

    /// Takes the bans of an earlier run.
    pub(crate) fn restore_bans(&self, bans: impl IntoIterator<Item = Ban>) {
        for ban in bans.into_iter().take(super::BANS_MAX) {
            if !self.is_exempt(ban.target) {
                let target = ban.target;
                let reason = ban.reason.clone();
                self.judge.state().table.restore(ban, Instant::now());
                self.cast_out(target, &reason);
            }
        }
    }

    /// Disconnects those who are connected and meant by a ban.
    fn cast_out(&self, target: BanTarget, reason: &str) {
        let reason = DisconnectReason::Banned(reason.to_owned());
        for peer in self.list().iter() {
            let ip = peer.addr().map(|addr| addr.ip());
            if target.is(key_of(peer).as_ref(), ip) {
                peer.reject(&reason);
            }
        }
    }

    pub(crate) fn unban(&self, target: BanTarget) -> bool {
        let target = target.canonical();
        self.judge.state().table.unban(target, Instant::now())
    }

    pub(crate) fn bans(&self) -> Vec<Ban> {
        self.judge.state().table.list(Instant::now())
    }

    /// Returns the words that a peer is told whose fault ends its connection.
    pub(crate) fn farewell(&self, peer: &Peer, reason: &DisconnectReason) -> String {
        let words = reason.goodbye();
        if !reason.is_banned() && self.banned_peer(peer).is_some() {
            return format!("banned: {words}");
        }
        words
    }

    /// Bans a peer that leaves because of its faults, and tells so; or remembers its faults, if
    /// there are any.
    pub(in crate::node) fn judge(&self, peer: &Peer, reason: &DisconnectReason) {
        let Some(faults) = peer.faults() else { return };
        let now = Instant::now();
        let (key, addr) = (key_of(peer), peer.addr());
        let ip = addr.map(|addr| addr.ip());
        if !peer.take_guilt() {
            let mut state = self.judge.state();
            targets(key, ip).for_each(|target| state.remember(target, faults, now));
            return;
        }
        let reason_text = super::short(&reason.to_string());
        let mut duration = Duration::ZERO;
        let is_vouched = key.is_some_and(|key| self.judge.vouches_for(&key));
        if !self.config().ban.is_zero() && !is_vouched {
            let network = ip.and_then(NetGroup::of);
            let mut state = self.judge.state();
            for target in targets(key, ip) {
                let length = state.table.punish(target, network, &reason_text, now);
                duration = duration.max(length);
                // It has been paid for.
                state.faulty.remove(&target);
            }
        }
        // Another connection to it may be open.
        peer.reject(reason);
        self.emit(Event::Banned {
            peer: Some(*peer.id()),
            addr,
            reason: reason_text,
            duration,
        });
    }

    /// Returns the error budget of a peer that connects.
    pub(in crate::node) fn budget(&self, intro: &Introduction) -> Budget {
        let limit = self.config().error_budget;
        let now = Instant::now();
        let state = self.judge.state();
        let mut worst: Option<Faults> = None;
        if !state.faulty.is_empty() {
            let ip = intro.origin.addr.map(|addr| addr.ip());
            for target in targets(intro.key, ip) {
                if let Some(faults) = state.faulty.get(&target) {
                    worst = Some(faults.or(worst, limit, now));
                }
            }
        }
        match worst {
            Some(faults) => Budget::with_faults(limit, faults, now),
            None => Budget::new(limit),
        }
    }
}

fn key_of(peer: &Peer) -> Option<[u8; 32]> {
    match peer.id() {
        PeerId::Key(key) => Some(*key),
        _ => None,
    }
}
