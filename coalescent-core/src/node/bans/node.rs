//! What a node asks of its judge, and what a fault leads to.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::judge::Suspect;
use super::{BANS_MAX, Ban, BanTarget};
use crate::error::Error;
use crate::node::Node;
use crate::node::event::Event;
use crate::node::peer::budget::Budget;
use crate::node::peer::{Introduction, Peer, PeerId};
use crate::reason::DisconnectReason;
use crate::transport::Allow;
use crate::transport::identity::PublicKey;

impl Node {
    /// Exempts the keys on this list from bans.
    pub(crate) fn set_vouched(&self, list: Allow) {
        self.judge.set_vouched(list);
    }

    /// Returns whether nobody can ban this target.
    pub(crate) fn is_exempt(&self, target: BanTarget) -> bool {
        self.judge.is_exempt(target)
    }

    /// Returns for how long a connection from or to this address, with this proven key, is banned.
    pub(crate) fn banned(&self, key: Option<PublicKey>, ip: Option<IpAddr>) -> Option<Duration> {
        self.judge.left(Suspect { key, ip }, Instant::now())
    }

    /// Returns for how long this peer is banned.
    pub(crate) fn banned_peer(&self, peer: &Peer) -> Option<Duration> {
        self.judge.left(suspect(peer), Instant::now())
    }

    /// Bans whom the application says, tells so, and disconnects those who are connected.
    pub(crate) fn ban(&self, ban: Ban) -> Result<Ban, Error> {
        if self.is_exempt(ban.target) {
            return Err(Error::config(match ban.target {
                BanTarget::Key(_) => "a key on the allow list cannot be banned: disallow it",
                BanTarget::Ip(_) => {
                    "a loopback address cannot be banned, since all programs of this machine have \
                     it: disconnect the peer, or ban its key"
                }
            }));
        }
        let ban = self.judge.ban(ban, Instant::now());
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
        Ok(ban)
    }

    /// Takes the bans of an earlier run.
    pub(crate) fn restore_bans(&self, bans: impl IntoIterator<Item = Ban>) {
        for ban in bans.into_iter().take(BANS_MAX) {
            if !self.is_exempt(ban.target) && !ban.left.is_zero() {
                let (target, reason) = (ban.target, ban.reason.clone());
                self.judge.restore(ban, Instant::now());
                self.cast_out(target, &reason);
            }
        }
    }

    /// Disconnects those who are connected and meant by a ban.
    fn cast_out(&self, target: BanTarget, reason: &str) {
        let reason = DisconnectReason::Banned(reason.to_owned());
        for peer in self.everyone() {
            let Suspect { key, ip } = suspect(&peer);
            if target.is(key.as_ref(), ip) {
                peer.reject(&reason);
            }
        }
    }

    pub(crate) fn unban(&self, target: BanTarget) -> bool {
        self.judge.unban(target, Instant::now())
    }

    pub(crate) fn bans(&self) -> Vec<Ban> {
        self.judge.list(Instant::now())
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
        if !peer.take_guilt() {
            self.judge.remember(suspect(peer), faults, now);
            return;
        }
        let text = super::short(&reason.to_string());
        let duration = self.judge.punish(suspect(peer), &text, now);
        // Another connection to it may be open.
        peer.reject(reason);
        self.emit(Event::Banned {
            peer: Some(*peer.id()),
            addr: peer.addr(),
            reason: text,
            duration,
        });
    }

    /// Returns the error budget of a peer that connects.
    pub(in crate::node) fn budget(&self, intro: &Introduction) -> Budget {
        let ip = intro.origin.addr.map(|addr| addr.ip());
        let key = intro.key;
        self.judge.budget(Suspect { key, ip }, Instant::now())
    }
}

impl Peer {
    /// Bans this peer for this long, as [`Mesh::ban`](crate::Mesh::ban) does: by its key, or, if it
    /// has proven none, by its IP address. Returns the ban. Whether it is still connected does not
    /// matter.
    ///
    /// Whoever makes keys as they like comes back with another one, so where anybody may join, ban
    /// the address too.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use coalescent::{Error, Mesh, Peer};
    ///
    /// fn cast_out(mesh: &Mesh, peer: &Peer) -> Result<(), Error> {
    ///     let hour = Duration::from_secs(3600);
    ///     peer.ban(hour, "spam")?;
    ///     if let Some(addr) = peer.addr().filter(|addr| !addr.ip().is_loopback()) {
    ///         mesh.ban(addr.ip(), hour, "spam")?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if it has proven no key, and has no address or a loopback
    /// one, and for a key on the [allow list](crate::Mesh::allow).
    pub fn ban(&self, duration: Duration, why: impl AsRef<str>) -> Result<Ban, Error> {
        let Suspect { key, ip } = suspect(self);
        let target = key.map(BanTarget::Key).or(ip.map(BanTarget::from));
        let target = target.ok_or_else(|| {
            Error::config("this peer has neither a key nor an address: disconnect it")
        })?;
        self.node().ban(Ban::new(target, duration, why))
    }
}

fn suspect(peer: &Peer) -> Suspect {
    Suspect {
        key: peer.id().key(),
        ip: peer.addr().map(|addr| addr.ip()),
    }
}
