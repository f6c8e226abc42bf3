//! What is held against a peer.

use tokio::time::Instant;

use super::{Peer, lock};
use crate::error::Error;
use crate::node::peer::budget::Faults;
use crate::reason::DisconnectReason;

impl Peer {
    /// Holds a fault against this peer, and reports it as an error event with `why`.
    ///
    /// A peer whose faults weigh more than [`Config::error_budget`](crate::Config::error_budget)
    /// (default: 100) is disconnected, told the last `why`, and [banned](crate::Event::Banned) for
    /// a while. Faults are forgotten evenly over a minute; a reconnect forgets none. An
    /// [offence](Error::offence) in the peer's frames has the weight 1, and a violation of its
    /// wire's protocol weighs more than the budget. A weight above the budget uses it up.
    ///
    /// Use it for what the peer itself has done and no version of the program would do, not for
    /// what it may have passed on in good faith.
    ///
    /// ```
    /// # use coalescent::{App, transport::Memory};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let network = Memory::new();
    /// # let alice = App::new().transport(network.clone()).listen("alice:1").await?;
    /// # let bob = App::new().transport(network).start().await?;
    /// # let mut heard = alice.reader();
    /// # bob.connect("alice:1").await?.send_payload("junk").await?;
    /// # let frame = heard.next_frame().await.ok_or("the mesh has ended")?;
    /// // In a layer or handler, of a frame that no version of the program makes:
    /// let peer = frame.peer();
    /// for _ in 0..6 {
    ///     peer.penalize(20, "junk");
    /// }
    /// let reason = peer.closed().await;
    /// assert_eq!(reason.to_string(), "too many faults, the last one: junk");
    /// # Ok(())
    /// # }
    /// ```
    pub fn penalize(&self, weight: u32, why: impl Into<String>) {
        let why = why.into();
        if !self.is_connected() {
            return;
        }
        self.0.node.error(Some(self), Error::penalty(weight, &why));
        if self.spend(weight, Instant::now()) {
            self.reject(&DisconnectReason::Penalized(why));
        }
    }

    /// Spends `weight` of the error budget. Returns whether it is used up.
    pub(crate) fn spend(&self, weight: u32, now: Instant) -> bool {
        let mut budget = lock(&self.0.budget);
        budget.spend(weight, now);
        budget.exhausted()
    }

    /// Spends all of the error budget: the peer has violated the protocol of its wire.
    pub(crate) fn spend_all(&self, now: Instant) {
        lock(&self.0.budget).spend_all(now);
    }

    /// Returns whether the error budget is used up, the first time that it is asked then.
    pub(crate) fn take_guilt(&self) -> bool {
        lock(&self.0.budget).take_guilt()
    }

    /// Returns what is held against the peer.
    pub(crate) fn faults(&self) -> Option<Faults> {
        lock(&self.0.budget).faults()
    }

    /// Ends all connections to this peer because of its fault: nothing is written but a BYE.
    pub(crate) fn reject(&self, reason: &DisconnectReason) {
        let links = self.links().usable.clone();
        for link in links {
            link.reject(reason.clone());
        }
    }
}
