//! Addresses to dial.

use std::hash::{Hash, Hasher};

use crate::error::Error;
use crate::transport::address::Address;
use crate::wire::Wire;

/// An address to dial, and the wire to use there if it is not the app's: a seed, or one that was
/// suggested, which has the app's wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seed {
    pub(crate) address: Address,
    pub(crate) wire: Option<Wire>,
}

impl Hash for Seed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.address.hash(state);
    }
}

impl From<Address> for Seed {
    fn from(address: Address) -> Self {
        Self {
            address,
            wire: None,
        }
    }
}

impl Seed {
    /// Parses an address of any scheme.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if `addr` is not of this form.
    pub(crate) fn parse(addr: &str, wire: Option<Wire>) -> Result<Self, Error> {
        let address = addr
            .parse()
            .map_err(|error| Error::config(format!("{error}")))?;
        Ok(Self { address, wire })
    }
}
