//! Suggested addresses, on their way into the plan.

use std::net::SocketAddr;

use super::entry::Learned;
use crate::mesh::runtime::Runtime;
use crate::node::event::Event;
use crate::node::suggestion::{Source, Suggestion};
use crate::transport::group::NetGroup;

impl Runtime {
    /// Takes a suggestion; see [`Mesh::suggest`](crate::Mesh::suggest).
    pub(crate) fn suggest(&self, suggestion: Suggestion) {
        let Suggestion {
            address,
            source,
            first,
        } = suggestion;
        let ip = address.ip();
        let security = self.security();
        let allowed = security.check(&address).and_then(|()| match ip {
            Some(ip) => security.permit(SocketAddr::new(ip, address.port())),
            None => Ok(()),
        });
        if let Err(error) = allowed {
            tracing::debug!(%address, %source, %error, "a suggestion was not taken");
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
}
