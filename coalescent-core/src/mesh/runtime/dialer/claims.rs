//! Which addresses are connected, on wires that do not tell one node from another.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::addresses::{CanonicalAddr, destination};

/// The addresses that connections without node numbers lead to. Clones share them.
///
/// On a wire with node numbers, two seeds that resolve to one node are recognized in the handshake.
/// Without numbers, the address is all there is: two seeds that resolve to one address share one
/// connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims(Arc<Mutex<HashMap<CanonicalAddr, CancellationToken>>>);

/// The claim of one connection to its address, released when this is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    claims: Claims,
    there: CanonicalAddr,
    released: CancellationToken,
}

impl Claims {
    /// Claims the address `there` for one connection.
    ///
    /// # Errors
    ///
    /// If another connection has claimed it, returns a token that is cancelled when that claim is
    /// released.
    pub(crate) fn claim(&self, there: SocketAddr) -> Result<Claim, CancellationToken> {
        let there = destination(there);
        let mut claimed = self.claimed();
        if let Some(released) = claimed.get(&there) {
            return Err(released.clone());
        }
        let released = CancellationToken::new();
        claimed.insert(there, released.clone());
        Ok(Claim {
            claims: self.clone(),
            there,
            released,
        })
    }

    fn claimed(&self) -> MutexGuard<'_, HashMap<CanonicalAddr, CancellationToken>> {
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
        let claims = Claims::default();
        let there = addr("10.0.0.1:7");
        let claim = claims.claim(there).unwrap();
        claims.claim(addr("10.0.0.1:8")).unwrap();
        let released = claims.claim(there).unwrap_err();
        assert!(!released.is_cancelled());
        drop(claim);
        released.cancelled().await;
        claims.claim(there).unwrap();
        let localhost = claims.claim(addr("[::1]:7")).unwrap();
        for there in ["127.0.0.1:7", "0.0.0.0:7", "[::]:7", "[::ffff:127.0.0.1]:7"] {
            assert!(claims.claim(addr(there)).is_err(), "{there}");
        }
        claims.claim(addr("127.0.0.2:7")).unwrap();
        drop(localhost);
        claims.claim(addr("127.0.0.1:7")).unwrap();
    }
}
