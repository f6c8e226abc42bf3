//! The plan, and what is told to it, behind one lock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};
use tokio_util::sync::DropGuard;

use super::plan::Plan;
use super::recent::Recent;
use super::seed::Seed;
use crate::node::peer::seat::Role;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// Wakes the task that dials.
    pub(super) changed: Notify,
    pub(super) wanted: watch::Sender<usize>,
    /// How many outbound contacts there may be.
    pub(super) max_contacts: usize,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) plan: Plan<Seed>,
    /// The number of outbound contacts that are connected or dialled, apart from those that the
    /// plan has dialled.
    pub(super) contacts: usize,
    /// The seeds that have a wire of their own.
    pub(super) wired: Vec<Seed>,
    /// The addresses that were told of as discovered.
    pub(super) told: Recent,
    /// The addresses that are this node.
    pub(super) own: Recent,
    /// What ends the wait for the peer of a learned address that is connected by another
    /// connection. An entry is removed with that address.
    pub(super) waits: HashMap<Seed, DropGuard>,
}

/// An outbound connection that belongs to no known address, counted until this is dropped.
#[derive(Debug)]
pub(super) struct Unseeded(pub(super) Arc<Shared>);

impl Drop for Unseeded {
    fn drop(&mut self) {
        self.0.update(|state| {
            let count = state.plan.unseeded().saturating_sub(1);
            state.plan.set_unseeded(count);
        });
    }
}

/// A wish for one outbound peer more than [`Config::min_peers`](crate::Config::min_peers), made
/// with [`Mesh::one_more`](crate::Mesh::one_more). It ends when this is dropped.
///
/// ```
/// # use coalescent::{App, transport::Memory};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let network = Memory::new();
/// # let a = App::new().transport(network.clone()).listen("a:1").await?;
/// # let b = App::new().transport(network.clone()).listen("b:2").await?;
/// let app = App::new().min_peers(1).seeds(["a:1", "b:2"]);
/// # let mesh = app.transport(network).start().await?;
/// mesh.connected(1).await?;
///
/// let wish = mesh.one_more();
/// mesh.connected(2).await?;
/// drop(wish);
/// # drop((a, b));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "the wish ends when this is dropped"]
pub struct OneMore(pub(super) Arc<Shared>);

impl Drop for OneMore {
    fn drop(&mut self) {
        self.0.update(|state| {
            let more = state.plan.more().saturating_sub(1);
            state.plan.set_more(more);
        });
    }
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the plan something, and the others what follows.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let result = change(&mut state);
        self.publish(&state);
        drop(state);
        self.changed.notify_one();
        result
    }

    /// Counts one more outbound contact.
    ///
    /// # Errors
    ///
    /// Returns their limit if it is reached.
    pub(super) fn reserve_contact(&self) -> Result<(), usize> {
        let mut state = self.state();
        if state.contacts >= self.max_contacts {
            return Err(self.max_contacts);
        }
        state.contacts += 1;
        Ok(())
    }

    /// Counts a contact as a peer. Returns false if there is no place for it.
    pub(super) fn promote_contact(&self) -> bool {
        self.update(|state| {
            let room = state.plan.add_apart();
            state.contacts -= usize::from(room);
            room
        })
    }

    /// Counts a connection no more that was counted in this role.
    pub(super) fn leave_contact(&self, role: Role) {
        self.update(|state| match role {
            Role::Contact => state.contacts -= 1,
            Role::Peer => state.plan.remove_apart(),
        });
    }

    pub(super) fn publish(&self, state: &State) {
        let wanted = state.plan.wanted();
        self.wanted
            .send_if_modified(|now| std::mem::replace(now, wanted) != wanted);
    }
}
