//! Whom this node dials: seeds, what plugins suggest, and probes.

use crate::error::Error;
use crate::mesh::{Mesh, OneMore, Probe, Wanted};
use crate::node::suggestion::{Source, Suggestion};
use crate::transport::address::Address;

impl Mesh {
    /// Adds a seed, which is treated like those of [`App::seeds`](crate::App::seeds). One that is
    /// a seed already is nothing new.
    ///
    /// ```
    /// # use coalescent::{App, transport::Memory};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let network = Memory::new();
    /// # let alice = App::new().transport(network.clone()).listen("alice:1").await?;
    /// # let bob = App::new().transport(network).start().await?;
    /// bob.add_seed("alice:1")?;
    /// bob.connected(1).await?;
    ///
    /// // She may go now, and is not dialled again.
    /// assert!(bob.remove_seed("alice:1")?);
    /// let peer = bob.peers().list()[0].clone();
    /// peer.disconnect("see you");
    /// peer.closed().await;
    /// # drop(alice);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if `addr` is not an address, or of a scheme that the app has
    /// no transport for.
    pub fn add_seed(&self, addr: &str) -> Result<(), Error> {
        self.runtime().add_seed(addr, None)
    }

    /// Removes a seed, and returns whether it was one: it is not dialled again.
    ///
    /// A peer that is connected by it stays, and a dial in progress goes on; call
    /// [`Peer::disconnect`](crate::Peer::disconnect) to let the peer go.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if `addr` is not an address.
    pub fn remove_seed(&self, addr: &str) -> Result<bool, Error> {
        self.runtime().remove_seed(addr)
    }

    /// Suggests an address at which there may be a peer. This node may dial it, now or later, if it
    /// has fewer outbound peers than [`Config::min_peers`](crate::Config::min_peers).
    ///
    /// This neither waits nor fails. A suggestion is not taken if its address is known already, as
    /// a suggestion or as a seed, or is this node's own, or [may not be dialled](Mesh::may_dial).
    ///
    /// # Dialling
    ///
    /// Seeds and suggestions take turns. Suggestions are dialled at most once a second, after a
    /// quiet time 8 at once. Each pauses after a failure as seeds do; after 6 failures in a row it
    /// is forgotten. Of one network (the /16 of an IPv4 address, the /32 of an IPv6 address) at
    /// most one is dialled or connected at a time; loopback, private, shared and link-local
    /// addresses are exempt. If a peer is [busy](Error::is_busy), its address pauses, and is not
    /// forgotten for that. Failed dials of suggestions are no
    /// [`Event::Error`](crate::Event::Error); they are logged at debug level, and told to
    /// [`Registrar::on_dial`](crate::Registrar::on_dial).
    ///
    /// At most 256 suggestions are known at a time. For a new one, one of the source that has the
    /// most is forgotten: one that failed, or else the oldest.
    pub fn suggest(&self, suggestion: Suggestion) {
        self.runtime().suggest(suggestion);
    }

    /// Has [`Event::Discovered`](crate::Event::Discovered) tell of an address that a plugin has
    /// found and dials by itself, with [`contact`](Mesh::contact). What is
    /// [suggested](Mesh::suggest) is told of anyway.
    ///
    /// Each address is told of once, whoever finds it; seeds and this node's own are not told of.
    pub fn discovered(&self, address: &Address, source: Source) {
        self.runtime().discovered(address, source);
    }

    /// Returns whether the configuration of this node allows to dial an address, without looking
    /// up a host name.
    ///
    /// It does not if the address names an identity and this node has none, or if it is an IP
    /// address other than loopback, and there is neither an identity nor
    /// [`Config::allow_plaintext`](crate::Config::allow_plaintext). A ban is another matter.
    #[must_use]
    pub fn may_dial(&self, address: &Address) -> bool {
        self.runtime().may_dial(address).is_ok()
    }

    /// Wants one outbound peer more than [`Config::min_peers`](crate::Config::min_peers), for as
    /// long as the result is kept; never more than
    /// [`Config::max_peers`](crate::Config::max_peers).
    ///
    /// When the result is dropped nobody is disconnected: the place is only not filled again. A
    /// plugin that exchanges one peer for another keeps one for the newcomer, then lets the other
    /// go.
    pub fn one_more(&self) -> OneMore {
        self.runtime().dialer().one_more()
    }

    /// Tells for how many outbound places this node knows nobody to dial.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        self.runtime().wanted()
    }

    /// Asks who is at an address: dials, exchanges introductions, and says goodbye. The other end
    /// does not become a peer of this node, and no event tells of it.
    ///
    /// It may see this node as a peer for a moment. On wires without introductions, nothing is
    /// learned but that the address accepts connections. A probe counts towards no limit.
    ///
    /// # Errors
    ///
    /// Those of [`connect`](Mesh::connect).
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the connection is closed without a goodbye.
    pub async fn probe(&self, address: &Address) -> Result<Probe, Error> {
        self.runtime().probe(address).await
    }
}
