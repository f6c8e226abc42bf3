//! Banning by hand, and keeping bans over a restart.

use std::time::Duration;

use super::Mesh;
use crate::error::Error;
use crate::node::bans::{Ban, BanTarget};

impl Mesh {
    /// Bans a key, or an IP address (of IPv6, its /64), for this long, at most
    /// [`Config::ban_max`](crate::Config::ban_max): who is meant is neither let in nor dialled.
    /// Returns the ban. It replaces one that there is.
    ///
    /// A connected peer that is meant is disconnected and told so, with `why`. Everybody is told by
    /// [`Event::Banned`](crate::Event::Banned). For a peer that is or was connected, there is
    /// [`Peer::ban`](crate::Peer::ban). Peers that misbehave are banned without this; see
    /// [`Peer::penalize`](crate::Peer::penalize).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use coalescent::{App, BanTarget};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), coalescent::Error> {
    /// # let mesh = App::new().start().await?;
    /// let target: BanTarget = "198.51.100.7".parse()?;
    /// let ban = mesh.ban(target, Duration::from_secs(3600), "spam")?;
    /// assert_eq!(ban.reason(), "spam");
    /// assert_eq!(mesh.bans().len(), 1);
    /// assert!(mesh.unban(target));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) for a loopback address, which all programs of this machine
    /// share, and for a key on the [allow list](Mesh::allow): [disallow](Mesh::disallow) it.
    pub fn ban(
        &self,
        who: impl Into<BanTarget>,
        duration: Duration,
        why: impl AsRef<str>,
    ) -> Result<Ban, Error> {
        self.peers().node().ban(Ban::new(who, duration, why))
    }

    /// Ends a ban, and forgets the earlier ones of this key or address. Returns whether it was
    /// banned.
    ///
    /// A peer is usually banned by its key and by its address, which are two bans.
    pub fn unban(&self, who: impl Into<BanTarget>) -> bool {
        let unbanned = self.peers().node().unban(who.into());
        if unbanned {
            self.runtime().dialer().unbanned();
        }
        unbanned
    }

    /// Returns who is banned now, those that are banned longest first; at most
    /// [`BANS_MAX`](crate::BANS_MAX).
    #[must_use]
    pub fn bans(&self) -> Vec<Ban> {
        self.peers().node().bans()
    }

    /// Takes the [bans](Mesh::bans) of an earlier run; no event tells of them. What they say is not
    /// trusted: none lasts longer than [`Config::ban_max`](crate::Config::ban_max), and those that
    /// [`ban`](Mesh::ban) refuses are left out.
    pub fn restore_bans(&self, bans: impl IntoIterator<Item = Ban>) {
        self.peers().node().restore_bans(bans);
    }
}
