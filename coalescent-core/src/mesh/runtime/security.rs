//! Securing connections: which addresses are allowed, whose keys are, and the TLS handshake.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::error::Error;
use crate::node::Peers;
use crate::transport::address::Address;
use crate::transport::identity::PublicKey;
#[cfg(feature = "tls")]
use crate::transport::tls::Tls;
use crate::transport::{Allow, BoxIo, Connected, Protection, Transports};
#[cfg(feature = "tls")]
use crate::transport::{Heard, Io};

/// What a peer is told whose key may not connect.
pub(super) const NOT_ALLOWED: &str = "this key is not allowed";

/// Whether and how connections are encrypted and authenticated.
#[derive(Clone, Debug)]
pub(crate) struct Security {
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
    /// The keys that are accepted, whoever proves them.
    allow: Allow,
    /// Whether peers prove keys: there is an identity, or a transport that proves keys itself.
    keys: bool,
    allow_plaintext: bool,
}

/// A connection that is as secure as it is going to be, and the key that the peer has proven.
type Secured = (BoxIo, Option<PublicKey>);

/// The error of an allow list where no peer proves a key.
pub(super) fn no_keys() -> Error {
    Error::config(
        "without TLS no peer proves a key, so none can be allowed: give the app an identity, or a \
         transport that proves keys",
    )
}

impl Security {
    /// Returns how an app secures its connections, and the key that it proves, as far as that is
    /// known.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if there is a list of keys and nobody proves one, or if the
    /// app proves several keys.
    pub(crate) fn of(
        #[cfg(feature = "tls")] tls: Option<Tls>,
        allow: Option<Allow>,
        transports: &Transports,
        allow_plaintext: bool,
    ) -> Result<(Self, Option<PublicKey>), Error> {
        #[cfg(feature = "tls")]
        let (tls, identity, allow) = {
            let tls = tls.map(|tls| match allow.clone() {
                Some(allow) => tls.allow(allow),
                None => tls,
            });
            let list = tls.as_ref().map(|tls| tls.allowed().clone());
            let identity = tls.as_ref().map(Tls::id);
            (tls, identity, list.or(allow))
        };
        #[cfg(not(feature = "tls"))]
        let identity = None;
        let keys = identity.is_some() || transports.prove_keys();
        if allow.is_some() && !keys {
            return Err(no_keys());
        }
        let key = transports.key(identity)?;
        let security = Self {
            #[cfg(feature = "tls")]
            tls,
            allow: allow.unwrap_or_default(),
            keys,
            allow_plaintext,
        };
        Ok((security, key))
    }

    /// Returns whether connections that a transport secures like this begin with a TLS handshake.
    pub(crate) fn encrypts(&self, protection: Protection) -> bool {
        protection != Protection::Keys && self.has_identity()
    }

    /// Returns whether this node speaks TLS on some connections.
    pub(crate) fn has_identity(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }

    /// Sets the node's key to the one that it proves, and exempts the peers on the allow list from
    /// bans.
    pub(crate) fn set_node_key(&self, peers: &Peers, key: Option<PublicKey>) {
        if let Some(key) = key {
            peers.node().set_key(key);
        }
        if self.keys {
            peers.node().set_vouched(self.allow.clone());
        }
    }

    /// Checks that connections to or at `addr` are allowed.
    ///
    /// # Errors
    ///
    /// [`is_plaintext`](Error::is_plaintext) if they would be plaintext, the address is not
    /// loopback, and plaintext is not allowed.
    pub(crate) fn permit(&self, addr: SocketAddr, protection: Protection) -> Result<(), Error> {
        if addr.ip().to_canonical().is_loopback() || self.permits_anywhere(protection) {
            Ok(())
        } else {
            Err(Error::plaintext(addr))
        }
    }

    /// Checks the same of an address that is no socket address.
    ///
    /// # Errors
    ///
    /// [`is_plaintext`](Error::is_plaintext) if it is not allowed.
    pub(crate) fn permit_other(
        &self,
        address: &Address,
        protection: Protection,
    ) -> Result<(), Error> {
        match self.permits_anywhere(protection) {
            true => Ok(()),
            false => Err(Error::plaintext(address)),
        }
    }

    fn permits_anywhere(&self, protection: Protection) -> bool {
        protection != Protection::Plain || self.has_identity() || self.allow_plaintext
    }

    /// Checks that peers prove keys where there is a list of those to accept: `place` is where they
    /// are dialled or accepted.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if nobody proves a key there.
    pub(crate) fn check_list(
        &self,
        place: impl fmt::Display,
        protection: Protection,
    ) -> Result<(), Error> {
        if self.allow.is_list() && protection != Protection::Keys && !self.has_identity() {
            return Err(Error::config(format!(
                "{place}: nobody proves a key there, and the app allows only some keys: give it \
                 an identity too"
            )));
        }
        Ok(())
    }

    /// Checks that the identity in `addr`, if it names one, can be verified, and that one is proven
    /// if only some are allowed.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if nobody proves a key there.
    pub(crate) fn check(&self, addr: &Address, protection: Protection) -> Result<(), Error> {
        self.check_list(addr, protection)?;
        if addr.id().is_some() && protection != Protection::Keys && !self.has_identity() {
            return Err(Error::config(format!(
                "{addr} names an identity, which only TLS can prove: give the app an identity too"
            )));
        }
        Ok(())
    }

    /// Returns the list of the peers to accept, unless nobody proves a key.
    pub(crate) fn allowed(&self) -> Option<&Allow> {
        self.keys.then_some(&self.allow)
    }

    /// Returns whether a peer that has proven this key may be connected.
    pub(crate) fn is_allowed(&self, key: &PublicKey) -> bool {
        self.allowed().is_none_or(|allowed| allowed.contains(key))
    }

    /// Secures an accepted connection. Returns it with the key that the peer has proven to hold, if
    /// any.
    pub(crate) async fn accept(
        &self,
        io: BoxIo,
        key: Option<PublicKey>,
        protection: Protection,
    ) -> Result<Secured, Error> {
        if protection == Protection::Keys {
            return Ok((io, Some(key.ok_or_else(unproven)?)));
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let (io, heard) = Heard::new(io);
            let accepted = tls.accept(io).await;
            let (stream, key) = accepted.map_err(|error| {
                let first = heard.first();
                if error.is_io() && first.is_empty() {
                    Error::unsaid(error)
                } else {
                    Error::handshake(error.hearing(&first))
                }
            })?;
            return Ok((boxed(stream), Some(key)));
        }
        Ok((io, None))
    }

    /// Secures a connection that was made to `addr`; like [`accept`](Self::accept). If the address
    /// names an identity, the peer must prove it.
    pub(crate) async fn connect(
        &self,
        connected: Connected,
        addr: &Address,
        protection: Protection,
    ) -> Result<Secured, Error> {
        let Connected { io, key, .. } = connected;
        if protection == Protection::Keys {
            let key = key.ok_or_else(unproven)?;
            self.check_key(&key, addr.id())?;
            return Ok((io, Some(key)));
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let (io, heard) = Heard::new(io);
            let connected = tls.connect(io, addr.id()).await;
            let (stream, key) =
                connected.map_err(|error| Error::handshake(error.hearing(&heard.first())))?;
            return Ok((boxed(stream), Some(key)));
        }
        Ok((io, None))
    }

    /// Returns the error of a connection that was not secured within `limit`.
    pub(crate) fn timeout(&self, limit: Duration, protection: Protection) -> Error {
        #[cfg(feature = "tls")]
        if self.tls.is_some() && protection != Protection::Keys {
            return Error::tls_timeout(limit);
        }
        let _ = protection;
        Error::handshake_timeout(limit)
    }

    /// Checks the key that a transport has proven of the other end of a dialled connection.
    fn check_key(&self, key: &PublicKey, expected: Option<PublicKey>) -> Result<(), Error> {
        if let Some(expected) = expected
            && expected != *key
        {
            return Err(Error::handshake(format!(
                "the peer is {key}, not {expected}: check the id and address of this peer; \
                 if both are right, somebody answers in its place"
            )));
        }
        if !self.is_allowed(key) {
            return Err(Error::not_allowed(key));
        }
        Ok(())
    }
}

#[cfg(feature = "tls")]
fn boxed(io: impl Io) -> BoxIo {
    Box::new(io)
}

/// The error of a transport that says that it proves keys, and gives none.
fn unproven() -> Error {
    Error::handshake("the transport has not said which key the other end has proven")
}
