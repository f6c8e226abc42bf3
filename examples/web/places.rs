//! Slots for connections, limited in total and per address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The network part of an IPv6 address. One customer usually has at least a whole /64.
const NETWORK: u128 = !(u64::MAX as u128);

/// A pool of slots. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Places(Arc<Shared>);

struct Shared {
    max: usize,
    max_per_address: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// An occupied slot, which is freed when dropped.
pub(crate) struct Place {
    places: Places,
    address: IpAddr,
}

impl Places {
    pub(crate) fn new(max: usize, max_per_address: usize) -> Self {
        Self(Arc::new(Shared {
            max,
            max_per_address,
            taken: Mutex::default(),
        }))
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        let taken = self.0.taken.lock();
        taken.unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a slot for a connection from `address`; returns `None` if all are occupied.
    pub(crate) fn take(&self, address: IpAddr) -> Option<Place> {
        let address = network(address);
        let mut taken = self.taken();
        if taken.all >= self.0.max {
            return None;
        }
        let of_address = taken.by_address.entry(address).or_default();
        if *of_address >= self.0.max_per_address {
            return None;
        }
        *of_address += 1;
        taken.all += 1;
        Some(Place {
            places: self.clone(),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all = taken.all.saturating_sub(1);
        if let Some(of_address) = taken.by_address.get_mut(&self.address) {
            *of_address = of_address.saturating_sub(1);
            if *of_address == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

/// Returns the network that counts as one address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
        IpAddr::V4(address) => address.into(),
    }
}
