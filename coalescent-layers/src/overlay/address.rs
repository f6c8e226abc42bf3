//! Where peers can be dialled: what is told of it, and what is believed.

use coalescent_core::Address;
use coalescent_core::identity::PublicKey;

use super::ids::{Key, is_possible, with_key};
use super::mirror::Raw;
use crate::discovery::place::Place;

/// What a node knows in order to judge an address.
#[derive(Clone, Copy)]
pub(crate) struct Rules<'a> {
    /// This node.
    pub(crate) me: &'a Key,
    /// Whether this node proves a key, as then all do.
    pub(crate) keys: bool,
    /// Whether the configuration of this node allows to dial an address.
    pub(crate) may_dial: &'a dyn Fn(&Address) -> bool,
}

impl Rules<'_> {
    /// Returns the address of the peer `id`, which somebody at `teller` has told; `None` if it is
    /// not believed.
    ///
    /// # Errors
    ///
    /// If no honest node says such a thing.
    pub(crate) fn told(
        &self,
        id: &Key,
        data: Raw<'_>,
        teller: Place,
    ) -> Result<Option<Address>, NoAddress> {
        let address = self.read(id, data)?;
        let address = address.filter(|address| teller.may_tell(Place::of(address)));
        Ok(address.filter(|address| (self.may_dial)(address)))
    }

    /// Returns the address of the peer `id`, as it is written; `None` if it leads nowhere.
    ///
    /// # Errors
    ///
    /// If it is no address, or one of somebody else.
    pub(crate) fn read(&self, id: &Key, data: Raw<'_>) -> Result<Option<Address>, NoAddress> {
        let text = std::str::from_utf8(data.0).map_err(|_| NoAddress)?;
        let address: Address = text.parse().map_err(|_| NoAddress)?;
        let is_other = |named: PublicKey| !self.keys || named.as_bytes() != id;
        if address.id().is_some_and(is_other) {
            return Err(NoAddress);
        }
        Ok(self.with_key(id, address))
    }

    /// Returns an address of the peer `id`, with the key that it must prove; `None` if it leads
    /// nowhere.
    pub(crate) fn with_key(&self, id: &Key, address: Address) -> Option<Address> {
        let address = with_key(address, id, self.keys)?;
        (Place::of(&address) != Place::Nowhere).then_some(address)
    }

    /// Returns the address at which the peer `id` says that it listens, seen from `place`, if it
    /// may be dialled.
    pub(crate) fn believed(&self, id: &Key, listen: Address, place: Place) -> Option<Address> {
        let listen = self.with_key(id, listen)?;
        (place.may_tell(Place::of(&listen)) && (self.may_dial)(&listen)).then_some(listen)
    }

    /// Returns whether `id` can be the number of another node.
    pub(crate) fn is_other(&self, id: &Key) -> bool {
        id != self.me && is_possible(id, self.keys)
    }
}

/// Says that what is told of a peer is no address of that peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoAddress;

#[cfg(test)]
mod tests {
    use super::*;

    fn told(keys: bool, id: u8, text: &str, teller: Place) -> Option<String> {
        let mut key = [0; 32];
        key[..16].fill(id);
        let me = {
            let mut me = [0; 32];
            me[..16].fill(9);
            me
        };
        let rules = Rules {
            me: &me,
            keys,
            may_dial: &|address| address.host() != "1.2.3.4",
        };
        match rules.told(&key, Raw(text.as_bytes()), teller) {
            Ok(address) => address.map(|address| address.to_string()),
            Err(NoAddress) => Some("fault".to_owned()),
        }
    }

    #[test]
    fn an_address_must_be_one_and_fit_its_peer() {
        let key = "01".repeat(16) + &"00".repeat(16);
        let other = "02".repeat(32);
        let near = Place::Loopback;
        let fault = || Some("fault".to_owned());
        for (keys, text, expected) in [
            (false, "127.0.0.1:7", Some("127.0.0.1:7".to_owned())),
            (true, "127.0.0.1:7", Some(format!("{key}@127.0.0.1:7"))),
            (true, &format!("{key}@a:7"), Some(format!("{key}@a:7"))),
            (true, &format!("{other}@a:7"), fault()),
            (false, &format!("{key}@a:7"), fault()),
            (false, "no address", fault()),
            (false, "a:0", fault()),
            (false, "0.0.0.0:7", None),
            (false, "239.1.1.1:7", None),
            (false, "1.2.3.4:7", None),
        ] {
            assert_eq!(told(keys, 1, text, near), expected, "{text}");
        }
    }

    #[test]
    fn a_number_that_no_other_node_can_have_is_nobodys() {
        let me = [0; 32];
        let mut rules = Rules {
            me: &me,
            keys: false,
            may_dial: &|_| true,
        };
        assert!(!rules.is_other(&[7; 32]));
        rules.keys = true;
        assert!(rules.is_other(&[7; 32]));
        assert!(!rules.is_other(&me));
    }

    #[test]
    fn nobody_on_the_internet_tells_of_a_private_network() {
        assert_eq!(told(false, 1, "10.0.0.1:22", Place::Public), None);
        assert_eq!(told(false, 1, "127.0.0.1:22", Place::Public), None);
        assert!(told(false, 1, "10.0.0.1:22", Place::Private).is_some());
        assert!(told(false, 1, "8.8.8.8:22", Place::Public).is_some());
    }
}
