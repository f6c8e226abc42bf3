//! Suggested addresses, on their way into the plan.

use std::net::SocketAddr;

use super::entry::Learned;
use super::seed::Seed;
use crate::mesh::runtime::Runtime;
use crate::node::dial::{Source, Suggestion};
use crate::node::event::Event;
use crate::transport::group::NetGroup;

impl Runtime {
    /// Takes a suggestion; see [`Mesh::suggest`](crate::Mesh::suggest).
    pub(crate) fn suggest(&self, suggestion: &Suggestion) {
        let address = suggestion.address();
        let source = suggestion.source();
        let ip = address.ip();
        let security = self.security();
        let allowed = security.check(address).and_then(|()| match ip {
            Some(ip) => security.permit(SocketAddr::new(ip, address.port())),
            None => Ok(()),
        });
        if let Err(error) = allowed {
            tracing::debug!(%address, %source, %error, "a suggestion was not taken");
            return;
        }
        let learned = Learned {
            source,
            first: suggestion.is_first(),
            group: ip.and_then(NetGroup::of),
        };
        if self.dialer().suggest(Seed::from(address.clone()), learned) {
            tracing::debug!(%address, %source, "an address was suggested");
            // A plugin may name seeds that it does not want to be kept.
            if source == Source::SEED {
                return;
            }
            self.peers().node().emit(Event::Discovered {
                addr: address.clone(),
                source,
            });
        }
    }
}
