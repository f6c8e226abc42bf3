//! Asking who is at an address.

use std::net::SocketAddr;

use crate::node::peer::Introduction;
use crate::transport::identity::PublicKey;
use crate::wire::NodeId;

/// Who is at an address, from [`Mesh::probe`](crate::Mesh::probe). The texts come from the peer.
///
/// ```
/// # use coalescent::{App, transport::Memory};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let network = Memory::new();
/// # let alice = App::new().transport(network.clone()).listen("alice:1").await?;
/// # let bob = App::new().transport(network).start().await?;
/// let probe = bob.probe(&"alice:1".parse()?).await?;
/// assert_eq!(probe.node_id(), Some(alice.id()));
/// assert!(bob.peers().is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Probe {
    socket_addr: Option<SocketAddr>,
    intro: Introduction,
}

impl Probe {
    pub(super) fn new(socket_addr: Option<SocketAddr>, intro: Introduction) -> Self {
        Self { socket_addr, intro }
    }

    /// Returns the number that the peer chose for itself; `None` on a wire without numbers.
    #[must_use]
    pub fn node_id(&self) -> Option<NodeId> {
        self.intro.node_id
    }

    /// Returns the public key that the peer has proven; `None` where nobody proves one.
    #[must_use]
    pub fn key(&self) -> Option<PublicKey> {
        self.intro.key
    }

    /// Returns the program that the peer says it is.
    #[must_use]
    pub fn agent(&self) -> Option<&str> {
        self.intro.agent.as_deref()
    }

    /// Returns where the peer says that others can dial it.
    #[must_use]
    pub fn listen(&self) -> Option<&str> {
        self.intro.listen.as_deref()
    }

    /// Returns the socket address of the peer, if the transport has such addresses.
    #[must_use]
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        self.socket_addr
    }
}
