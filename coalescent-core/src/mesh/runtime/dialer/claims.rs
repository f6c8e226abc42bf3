//! Which addresses are connected, on wires that do not tell one node from another.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::addresses::{CanonicalAddr, destination};
use crate::transport::address::Address;

/// The addresses that connections without node numbers lead to. Clones share them.
///
/// On a wire with node numbers, two seeds that resolve to one node are recognized in the handshake.
/// Without numbers, the address is all there is: two seeds that resolve to one address share one
/// connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims(Arc<Mutex<HashMap<Place, CancellationToken>>>);

/// Where a connection leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Place {
    Addr(CanonicalAddr),
    /// On a transport without socket addresses.
    Other(Address),
}

/// The claim of one connection to its address, released when this is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    claims: Claims,
    there: Place,
    released: CancellationToken,
}

impl Claims {
    /// Claims the address `there` for one connection, or `dialled` if there is no socket address.
    ///
    /// # Errors
    ///
    /// If another connection has claimed it, returns a token that is cancelled when that claim is
    /// released.
    pub(crate) fn claim(
        &self,
        there: Option<SocketAddr>,
        dialled: &Address,
    ) -> Result<Claim, CancellationToken> {
        let there = match there {
            Some(there) => Place::Addr(destination(there)),
            None => Place::Other(dialled.clone()),
        };
        let mut claimed = self.claimed();
        if let Some(released) = claimed.get(&there) {
            return Err(released.clone());
        }
        let released = CancellationToken::new();
        claimed.insert(there.clone(), released.clone());
        Ok(Claim {
            claims: self.clone(),
            there,
            released,
        })
    }

    fn claimed(&self) -> MutexGuard<'_, HashMap<Place, CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.claimed().remove(&self.there);
        self.released.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn an_address_is_claimed_once_until_it_is_released() {
        let known = Claims::default();
        let dialled: Address = "unix:/a".parse().unwrap();
        let claim = |there| known.claim(Some(there), &dialled);
        let there = addr("10.0.0.1:7");
        let held = claim(there).unwrap();
        claim(addr("10.0.0.1:8")).unwrap();
        let released = claim(there).unwrap_err();
        assert!(!released.is_cancelled());
        drop(held);
        released.cancelled().await;
        claim(there).unwrap();
        let localhost = claim(addr("[::1]:7")).unwrap();
        for there in ["127.0.0.1:7", "0.0.0.0:7", "[::]:7", "[::ffff:127.0.0.1]:7"] {
            assert!(claim(addr(there)).is_err(), "{there}");
        }
        claim(addr("127.0.0.2:7")).unwrap();
        drop(localhost);
        claim(addr("127.0.0.1:7")).unwrap();
        let held = known.claim(None, &dialled).unwrap();
        assert!(known.claim(None, &dialled).is_err());
        known.claim(None, &"unix:/b".parse().unwrap()).unwrap();
        drop(held);
        known.claim(None, &dialled).unwrap();
    }
}
