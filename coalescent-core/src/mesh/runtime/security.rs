//! Securing connections: which addresses are allowed, and the TLS handshake.

use std::net::SocketAddr;

use crate::error::Error;
use crate::node::Peers;
use crate::transport::BoxIo;
#[cfg(feature = "tls")]
use crate::transport::Heard;
use crate::transport::address::Address;
#[cfg(feature = "tls")]
use crate::transport::identity::PublicKey;
#[cfg(feature = "tls")]
use crate::transport::tls::{Allow, Tls};

/// Whether and how connections are encrypted and authenticated.
#[derive(Clone, Debug)]
pub(crate) struct Security {
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Tls>,
    pub(crate) allow_plaintext: bool,
}

impl Security {
    /// Returns whether connections begin with a TLS handshake.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.has_identity()
    }

    fn has_identity(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }

    /// Sets the node's key to the one that its TLS identity proves, and exempts the peers on the
    /// allow list from bans.
    pub(crate) fn set_node_key(&self, peers: &Peers) {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            peers.node().set_key(*tls.id().as_bytes());
            peers.node().set_vouched(tls.allowed().clone());
        }
        #[cfg(not(feature = "tls"))]
        let _ = peers;
    }

    /// Checks that connections to or at `addr` are allowed.
    ///
    /// # Errors
    ///
    /// [`is_plaintext`](Error::is_plaintext) if the address is not loopback, there is no identity,
    /// and plaintext is not allowed.
    pub(crate) fn permit(&self, addr: SocketAddr) -> Result<(), Error> {
        if addr.ip().to_canonical().is_loopback() || self.has_identity() || self.allow_plaintext {
            Ok(())
        } else {
            Err(Error::plaintext(addr))
        }
    }

    /// Checks that the identity in `addr`, if it names one, can be verified.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if this node does not speak TLS.
    pub(crate) fn check(&self, addr: &Address) -> Result<(), Error> {
        if addr.id().is_some() && !self.has_identity() {
            return Err(Error::config(format!(
                "{addr} names an identity, which only TLS can prove: give the app an identity too"
            )));
        }
        Ok(())
    }

    /// Returns the list of the peers to accept, unless plaintext is spoken, which proves no key.
    #[cfg(feature = "tls")]
    pub(crate) fn allowed(&self) -> Option<&Allow> {
        self.tls.as_ref().map(Tls::allowed)
    }

    /// Returns whether a peer that has proven this key may be connected.
    pub(crate) fn is_allowed(&self, key: &[u8; 32]) -> bool {
        #[cfg(feature = "tls")]
        if let Some(allowed) = self.allowed() {
            return PublicKey::from_bytes(*key).is_ok_and(|key| allowed.contains(&key));
        }
        #[cfg(not(feature = "tls"))]
        let _ = key;
        true
    }

    /// Secures an accepted connection. Returns it with the key that the peer has proven to hold, if
    /// TLS is used.
    pub(crate) async fn accept(&self, io: BoxIo) -> Result<(BoxIo, Option<[u8; 32]>), Error> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let (io, heard) = Heard::new(io);
            let accepted = tls.accept(io).await;
            let (stream, key) = accepted.map_err(|error| {
                if error.is_io() && !heard.is_anything() {
                    Error::unsaid(error)
                } else {
                    Error::handshake(error)
                }
            })?;
            return Ok((Box::new(stream), Some(*key.as_bytes())));
        }
        Ok((io, None))
    }

    /// Secures a connection that was made to `addr`; like [`accept`](Self::accept). If the address
    /// names an identity, the peer must prove it.
    pub(crate) async fn connect(
        &self,
        io: BoxIo,
        addr: &Address,
    ) -> Result<(BoxIo, Option<[u8; 32]>), Error> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let expected = match addr.id() {
                Some(id) => Some(
                    PublicKey::from_bytes(*id).map_err(|error| Error::config(error.to_string()))?,
                ),
                None => None,
            };
            let (stream, key) = tls.connect(io, expected).await.map_err(Error::handshake)?;
            return Ok((Box::new(stream), Some(*key.as_bytes())));
        }
        #[cfg(not(feature = "tls"))]
        let _ = addr;
        Ok((io, None))
    }
}
