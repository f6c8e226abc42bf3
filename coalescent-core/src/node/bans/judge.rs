//! The bans of a node, and the faults that were not enough for one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::table::{Lengths, Table};
use super::{Ban, BanTarget};
use crate::config::Config;
use crate::node::peer::budget::{Budget, Faults, WINDOW};
use crate::transport::Allow;
use crate::transport::group::NetGroup;
use crate::transport::identity::PublicKey;

/// Of how many keys and addresses faults are remembered that were not enough for a ban: 1,024, each
/// for a minute. A new one replaces the oldest.
const MAX_FAULTY: usize = 1024;

/// Whom a node lets in no more, and whom it does not trust yet.
#[derive(Debug)]
pub(crate) struct Judge {
    state: Mutex<State>,
    /// Whether faults lead to bans.
    bans: bool,
    error_budget: u32,
    /// The keys that are exempt, if the app has a list of peers.
    vouched: OnceLock<Allow>,
}

#[derive(Debug)]
struct State {
    table: Table,
    /// What is held against those who have left.
    faulty: HashMap<BanTarget, Faults>,
}

/// Who is at the other end of a connection, as far as that is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suspect {
    /// The key that is proven.
    pub(crate) key: Option<PublicKey>,
    pub(crate) ip: Option<IpAddr>,
}

impl Suspect {
    /// Returns what can be banned: the key, and the address, unless that is of this machine and so
    /// shared by all who are on it.
    fn targets(self) -> impl Iterator<Item = BanTarget> {
        let address = self.ip.map(BanTarget::from);
        let address = address.filter(|address| !address.is_loopback());
        self.key.map(BanTarget::Key).into_iter().chain(address)
    }
}

impl Judge {
    pub(crate) fn new(config: &Config) -> Self {
        let lengths = Lengths {
            first: config.ban,
            max: config.ban_max,
        };
        Self {
            state: Mutex::new(State {
                table: Table::new(lengths),
                faulty: HashMap::new(),
            }),
            bans: !config.ban.is_zero(),
            error_budget: config.error_budget,
            vouched: OnceLock::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No change of it can panic halfway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Exempts the keys on this list.
    pub(crate) fn set_vouched(&self, list: Allow) {
        let _ = self.vouched.set(list);
    }

    /// Returns whether this target cannot be banned.
    pub(crate) fn is_exempt(&self, target: BanTarget) -> bool {
        match target {
            BanTarget::Key(key) => self.vouches_for(&key),
            BanTarget::Ip(_) => target.is_loopback(),
        }
    }

    fn vouches_for(&self, key: &PublicKey) -> bool {
        if let Some(vouched) = self.vouched.get() {
            return vouched.names(key);
        }
        false
    }

    /// Returns for how long somebody is still banned.
    pub(crate) fn left(&self, suspect: Suspect, now: Instant) -> Option<Duration> {
        let state = self.state();
        if state.table.is_empty() {
            return None;
        }
        let targets = suspect.targets().filter(|target| !self.is_exempt(*target));
        let left = targets.filter_map(|target| state.table.left(target, now));
        left.max()
    }

    pub(crate) fn ban(&self, ban: Ban, now: Instant) -> Ban {
        self.state().table.ban(ban, now)
    }

    pub(crate) fn restore(&self, ban: Ban, now: Instant) {
        self.state().table.restore(ban, now);
    }

    pub(crate) fn unban(&self, target: BanTarget, now: Instant) -> bool {
        self.state().table.unban(target.canonical(), now)
    }

    pub(crate) fn list(&self, now: Instant) -> Vec<Ban> {
        self.state().table.list(now)
    }

    /// Bans somebody for faults, and returns for how long: not at all if he is exempt.
    pub(crate) fn punish(&self, suspect: Suspect, reason: &str, now: Instant) -> Duration {
        let mut longest = Duration::ZERO;
        if !self.bans || suspect.key.is_some_and(|key| self.vouches_for(&key)) {
            return longest;
        }
        let network = suspect.ip.and_then(NetGroup::of);
        let mut state = self.state();
        for target in suspect.targets() {
            longest = longest.max(state.table.punish(target, network, reason, now));
            // They are paid for.
            state.faulty.remove(&target);
        }
        longest
    }

    /// Remembers the faults of somebody who leaves.
    pub(crate) fn remember(&self, suspect: Suspect, faults: Faults, now: Instant) {
        let mut state = self.state();
        for target in suspect.targets() {
            state.remember(target, faults, now);
        }
    }

    /// Returns the error budget of somebody who connects.
    pub(crate) fn budget(&self, suspect: Suspect, now: Instant) -> Budget {
        let limit = self.error_budget;
        let state = self.state();
        if state.faulty.is_empty() {
            return Budget::new(limit);
        }
        let mut worst: Option<Faults> = None;
        for target in suspect.targets() {
            if let Some(faults) = state.faulty.get(&target) {
                worst = Some(faults.or(worst, limit, now));
            }
        }
        match worst {
            Some(faults) => Budget::with_faults(limit, faults, now),
            None => Budget::new(limit),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn suspect(n: u16) -> Suspect {
        let [a, b] = n.to_be_bytes();
        Suspect {
            key: None,
            ip: Some([198, 51, a, b].into()),
        }
    }

    fn faults(limit: u32, weight: u32, now: Instant) -> Faults {
        let mut budget = Budget::new(limit);
        budget.spend(weight, now);
        budget.faults().unwrap()
    }

    #[test]
    fn faults_are_remembered_by_key_and_by_address_in_bounded_memory() {
        let (judge, now) = (Judge::new(&Config::default()), Instant::now());
        let both = Suspect {
            key: Some(PublicKey::repeated(7)),
            ..suspect(1)
        };
        judge.remember(both, faults(100, 60, now), now);
        let budget = |suspect| judge.budget(suspect, now).faults();
        let by_key = Suspect {
            key: Some(PublicKey::repeated(7)),
            ip: None,
        };
        assert!(budget(by_key).is_some() && budget(suspect(1)).is_some());
        assert_eq!(budget(suspect(2)), None);
        for n in 0..2 * MAX_FAULTY as u16 {
            judge.remember(suspect(n), faults(100, 1, now), now);
        }
        assert!(judge.state().faulty.len() <= MAX_FAULTY);
    }

    #[test]
    fn who_is_on_this_machine_is_known_by_key_alone() {
        let (judge, now) = (Judge::new(&Config::default()), Instant::now());
        let local = |key| Suspect {
            key,
            ip: Some([127, 0, 0, 1].into()),
        };
        assert_eq!(judge.punish(local(None), "junk", now), Duration::ZERO);
        assert!(
            !judge
                .punish(local(Some(PublicKey::repeated(7))), "junk", now)
                .is_zero()
        );
        assert_eq!(judge.left(local(None), now), None);
        assert!(
            judge
                .left(local(Some(PublicKey::repeated(7))), now)
                .is_some()
        );
        assert_eq!(judge.left(local(Some(PublicKey::repeated(8))), now), None);
    }
}
