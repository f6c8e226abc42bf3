//! Suggested addresses, on their way into the plan.

use std::net::SocketAddr;

use super::entry::Learned;
use crate::error::Error;
use crate::mesh::runtime::Runtime;
use crate::node::event::Event;
use crate::node::suggestion::{Source, Suggestion};
use crate::transport::address::Address;
use crate::transport::group::NetGroup;

impl Runtime {
    /// Checks that the configuration allows to dial an address; see
    /// [`Mesh::may_dial`](crate::Mesh::may_dial).
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) or [`is_plaintext`](Error::is_plaintext), if it does not.
    pub(crate) fn may_dial(&self, address: &Address) -> Result<(), Error> {
        let protection = self.transports().dialling(address)?.protection;
        let security = self.security();
        security.check(address, protection)?;
        match address.ip() {
            Some(ip) => security.permit(SocketAddr::new(ip, address.port()), protection),
            None if address.host().is_empty() => security.permit_other(address, protection),
            None => Ok(()),
        }
    }

    /// Takes a suggestion; see [`Mesh::suggest`](crate::Mesh::suggest).
    pub(crate) fn suggest(&self, suggestion: Suggestion) {
        let Suggestion {
            address,
            source,
            first,
        } = suggestion;
        let ip = address.ip();
        if let Err(error) = self.may_dial(&address) {
            tracing::debug!(%address, %source, error = %error.report(), "a suggestion was not taken");
            return;
        }
        if let Some(left) = self.peers().node().banned(address.id(), ip) {
            tracing::debug!(%address, %source, ?left, "a suggestion was not taken: it is banned");
            return;
        }
        let learned = Learned {
            source,
            first,
            group: ip.and_then(NetGroup::of),
        };
        let tell = self.dialer().suggest(&address, learned);
        // A plugin may name seeds that it does not want to be kept.
        if tell && source != Source::SEED {
            tracing::debug!(%address, %source, "an address was suggested");
            self.peers().node().emit(Event::Discovered {
                addr: address,
                source,
            });
        }
    }

    /// Tells of an address that a plugin dials by itself; see
    /// [`Mesh::discovered`](crate::Mesh::discovered).
    pub(crate) fn discovered(&self, address: &Address, source: Source) {
        if self.may_dial(address).is_ok() && self.dialer().discovered(address) {
            self.peers().node().emit(Event::Discovered {
                addr: address.clone(),
                source,
            });
        }
    }
}
