//! The keys that are accepted.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use crate::transport::identity::PublicKey;

/// The peers to accept: all, or those on a list.
///
/// An empty list accepts nobody. Any iterator of keys converts into a list with `into()`.
///
/// The list can change while it is used: clones share it, and the next handshake of whoever has it
/// goes by what it says then. [`Mesh::allow`](crate::Mesh::allow) and
/// [`Mesh::disallow`](crate::Mesh::disallow) change that of a mesh.
///
/// ```
/// use coalescent::identity::Identity;
/// use coalescent::transport::Allow;
///
/// let (alice, bob) = (Identity::generate().id(), Identity::generate().id());
/// let list = Allow::only([alice]);
/// let shared = list.clone();
/// assert!(list.contains(&alice) && !list.contains(&bob));
/// assert!(list.insert(bob));
/// assert!(shared.contains(&bob));
///
/// // Everybody but one.
/// let all = Allow::all();
/// assert!(all.remove(&bob));
/// assert!(all.contains(&alice) && !all.contains(&bob));
/// ```
#[derive(Clone, Default)]
pub struct Allow(Arc<RwLock<Rules>>);

/// Whom a list accepts.
#[derive(Debug, Default)]
struct Rules {
    /// `None` accepts everybody but those in `not`.
    only: Option<BTreeSet<PublicKey>>,
    not: BTreeSet<PublicKey>,
}

impl Allow {
    /// Accepts every peer that proves a key. The default.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Accepts the peers with these keys.
    #[must_use]
    pub fn only(keys: impl IntoIterator<Item = PublicKey>) -> Self {
        Self(Arc::new(RwLock::new(Rules {
            only: Some(keys.into_iter().collect()),
            not: BTreeSet::new(),
        })))
    }

    /// Returns whether the peer with this key is accepted.
    #[must_use]
    pub fn contains(&self, key: &PublicKey) -> bool {
        let rules = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match &rules.only {
            Some(keys) => keys.contains(key),
            None => !rules.not.contains(key),
        }
    }

    /// Returns whether this is a list, so that whoever proves no key is not accepted.
    pub(crate) fn is_list(&self) -> bool {
        let rules = self.0.read().unwrap_or_else(PoisonError::into_inner);
        rules.only.is_some()
    }

    /// Returns whether this is a list, and this key is on it.
    pub(crate) fn names(&self, key: &PublicKey) -> bool {
        let rules = self.0.read().unwrap_or_else(PoisonError::into_inner);
        rules.only.as_ref().is_some_and(|keys| keys.contains(key))
    }

    /// Accepts the peer with this key from now on. Returns whether it was not accepted before.
    pub fn insert(&self, key: PublicKey) -> bool {
        let mut rules = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match &mut rules.only {
            Some(keys) => keys.insert(key),
            None => rules.not.remove(&key),
        }
    }

    /// Accepts the peer with this key no more: takes it off the list, or makes it the exception if
    /// all others are accepted. Returns whether it was accepted before.
    ///
    /// This concerns handshakes from now on, not connections that have been made.
    pub fn remove(&self, key: &PublicKey) -> bool {
        let mut rules = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match &mut rules.only {
            Some(keys) => keys.remove(key),
            None => rules.not.insert(*key),
        }
    }
}

impl fmt::Debug for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match &rules.only {
            Some(only) => f.debug_tuple("Allow").field(only).finish(),
            None => f.debug_struct("Allow").field("not", &rules.not).finish(),
        }
    }
}

impl<I: IntoIterator<Item = PublicKey>> From<I> for Allow {
    fn from(keys: I) -> Self {
        Self::only(keys)
    }
}
