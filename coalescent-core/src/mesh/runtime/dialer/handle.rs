//! What is shared by all who dial, or tell the plan something.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::claims::Claims;
use super::dead_ends::DeadEnds;
use super::entry::Learned;
use super::plan::{DialConfig, Due, Plan};
use super::pool::Suggested;
use super::recent::Recent;
use super::seed::Seed;
use super::self_check::SelfChecks;
use super::shared::{OneMore, Shared, State, Unseeded};
use super::wanted::Wanted;
use crate::config::Config;
use crate::error::Error;
use crate::transport::address::Address;
use crate::transport::group::NetGroup;

/// How many addresses are remembered so that
/// [`Event::Discovered`](crate::Event::Discovered) is told once for each: 4,096. They take some
/// 100 KiB.
pub const DISCOVERED_MAX: usize = 4096;

/// How many addresses are remembered that have turned out to be this node: 64. A suggestion of one
/// is not taken.
pub(crate) const OWN_MAX: usize = 64;

/// What has happened to a dialled address.
#[derive(Debug)]
pub(super) enum Change {
    /// The dial failed.
    Failed,
    /// Only this node itself was there.
    Itself,
    /// The peer has no place now, or another one of this group is connected.
    Later(Option<NetGroup>),
    /// Who is there is banned for as long yet.
    Banned(Duration),
    /// This node's dial has made a connection.
    Connected,
    /// The node at the address is connected by another connection.
    Already,
    /// The connection to the node has ended, whichever it was.
    Lost,
}

/// The mesh's handle to the plan, and what dials share.
#[derive(Debug)]
pub(crate) struct Dialer {
    shared: Arc<Shared>,
    self_checks: SelfChecks,
    claims: Claims,
    dead_ends: Mutex<DeadEnds>,
    /// Held by the one that has the next turn of the budget, so that they have it in order.
    told_first: tokio::sync::Mutex<()>,
    /// Limits how many told addresses are dialled for contacts at a time.
    told_dials: Semaphore,
}

impl Dialer {
    /// Makes a dialer for these seeds. Its pauses follow from `rng_seed`.
    pub(crate) fn new(config: &Config, seeds: Vec<Seed>, rng_seed: u64) -> Self {
        let wired = seeds.iter().filter(|seed| seed.wire.is_some());
        let wired = wired.cloned().collect();
        let plan = Plan::new(seeds, dial_config(config), rng_seed);
        Self {
            shared: Arc::new(Shared {
                wanted: watch::Sender::new(plan.wanted()),
                state: Mutex::new(State {
                    plan,
                    contacts: 0,
                    wired,
                    told: Recent::new(DISCOVERED_MAX),
                    own: Recent::new(OWN_MAX),
                    waits: HashMap::new(),
                }),
                changed: Notify::new(),
                max_contacts: config.max_contacts,
            }),
            self_checks: SelfChecks::default(),
            claims: Claims::default(),
            dead_ends: Mutex::default(),
            told_first: tokio::sync::Mutex::default(),
            told_dials: Semaphore::new((config.max_contacts / 2).max(1)),
        }
    }

    /// Adds a seed.
    pub(crate) fn add(&self, seed: Seed) {
        self.shared.update(|state| {
            if seed.wire.is_some() && !state.wired.contains(&seed) {
                state.wired.push(seed.clone());
            }
            if let Some(wait) = state.waits.remove(&seed) {
                // It is a seed now: the end of the other connection matters.
                wait.disarm();
            }
            state.plan.add_seed(seed);
        });
    }

    /// Removes the seeds of an address, with whatever wire. Returns whether there were any.
    pub(crate) fn remove(&self, seed: &Seed) -> bool {
        self.shared.update(|state| {
            let mut removed = state.plan.remove_seed(seed);
            state.wired.retain(|wired| {
                let is_it = wired.address == seed.address;
                removed |= is_it && state.plan.remove_seed(wired);
                !is_it
            });
            removed
        })
    }

    /// Takes a suggestion. Returns whether it is to be told of.
    pub(super) fn suggest(&self, address: &Address, learned: Learned) -> bool {
        let mut state = self.shared.state();
        let is_seed = state.wired.iter().any(|wired| wired.address == *address);
        if is_seed || state.own.contains(address) {
            return false;
        }
        let seed = Seed::from(address.clone());
        let tell = match state.plan.suggest(seed, learned, Instant::now()) {
            Suggested::Nothing => false,
            Suggested::Taken { evicted } => {
                if let Some(evicted) = evicted {
                    state.waits.remove(&evicted);
                }
                state.told.insert(address)
            }
        };
        // Counting is not cheap, and one more address cannot make a place wanted that was not.
        if *self.shared.wanted.borrow() > 0 {
            self.shared.publish(&state);
        }
        drop(state);
        self.shared.changed.notify_one();
        tell
    }

    /// Returns whether an address is to be told of as discovered: it is not known as a seed, nor as
    /// this node itself, and it was not told of before.
    pub(super) fn discovered(&self, address: &Address) -> bool {
        let mut state = self.shared.state();
        let is_seed = state.wired.iter().any(|wired| wired.address == *address);
        !is_seed && !state.own.contains(address) && state.told.insert(address)
    }

    /// Returns whom to dial now, and when to ask again if nothing changes.
    pub(super) fn due(&self, now: Instant) -> (Vec<Due<Seed>>, Option<Instant>) {
        let mut state = self.shared.state();
        let due = state.plan.due(now);
        self.shared.publish(&state);
        (due, state.plan.next(now))
    }

    /// Waits until something has changed since the last call.
    pub(super) async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    /// Tells the plan what has become of a dial or a connection. Returns `itself` if it is to be
    /// reported, and whether a failure is.
    pub(super) fn tell(
        &self,
        seed: &Seed,
        change: &Change,
        itself: Option<Error>,
    ) -> (Option<Error>, bool) {
        let now = Instant::now();
        self.shared.update(|state| {
            let plan = &mut state.plan;
            let itself = plan.note_itself(seed, itself);
            let learned = plan.is_learned(seed);
            let mut failed = false;
            match change {
                Change::Itself if learned => {
                    plan.forget(seed);
                    state.own.insert(&seed.address);
                }
                Change::Itself | Change::Failed => failed = plan.failed(seed, now).is_some(),
                Change::Later(group) => {
                    if let Some(group) = group {
                        plan.claim_group(seed, *group);
                    }
                    failed = plan.later(seed, now).is_some();
                }
                Change::Banned(left) => {
                    failed = plan.banned(seed, now + *left).is_some();
                    state.waits.remove(seed);
                }
                Change::Connected => plan.connected(seed, now),
                Change::Already => plan.already(seed, now),
                Change::Lost => {
                    plan.lost(seed, now);
                    state.waits.remove(seed);
                }
            }
            // What happens at a suggested address is nobody's fault, and of no importance.
            (itself.filter(|_| !learned), failed && !learned)
        })
    }

    /// Lets the plan try again whom it has not dialled because of a ban.
    pub(crate) fn unbanned(&self) {
        self.shared
            .update(|state| state.plan.unbanned(Instant::now()));
    }

    /// Returns a token that is cancelled when a learned address is forgotten that is connected by
    /// another connection, so that nobody waits for the end of that connection any more.
    pub(super) fn wait(&self, seed: &Seed) -> CancellationToken {
        let token = CancellationToken::new();
        let mut state = self.shared.state();
        if !state.plan.contains(seed) {
            token.cancel();
        } else if state.plan.is_learned(seed) {
            let guard = token.clone().drop_guard();
            state.waits.insert(seed.clone(), guard);
        }
        token
    }

    /// Counts an outbound connection that belongs to no known address.
    pub(super) fn count_unseeded(&self) -> Unseeded {
        self.shared.update(|state| {
            let count = state.plan.unseeded().saturating_add(1);
            state.plan.set_unseeded(count);
        });
        Unseeded(Arc::clone(&self.shared))
    }

    /// Wants one outbound peer more than `min_peers`.
    pub(crate) fn one_more(&self) -> OneMore {
        self.shared.update(|state| {
            let more = state.plan.more().saturating_add(1);
            state.plan.set_more(more);
        });
        OneMore(Arc::clone(&self.shared))
    }

    /// Waits for the turn of a dial of an address that others have told: for the budget, then for a
    /// place among such dials. `None` if there will be none.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, a dial of the budget may be lost.
    pub(super) async fn told_turn(&self) -> Option<SemaphorePermit<'_>> {
        {
            let _first = self.told_first.lock().await;
            while let Some(at) = self.afford(Instant::now()) {
                sleep_until(at).await;
            }
        }
        self.told_dials.acquire().await.ok()
    }

    fn afford(&self, now: Instant) -> Option<Instant> {
        self.shared.state().plan.afford(now)
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Returns the addresses of the seeds, each once.
    pub(crate) fn seeds(&self) -> Vec<Address> {
        let state = self.shared.state();
        let mut seeds: Vec<Address> = Vec::new();
        for seed in state.plan.seeds() {
            if !seeds.contains(&seed.address) {
                seeds.push(seed.address.clone());
            }
        }
        seeds
    }

    /// Whether a dial of `seed` may use an address of this group now.
    pub(super) fn is_free(&self, seed: &Seed, group: NetGroup) -> bool {
        self.shared.state().plan.is_free(seed, group)
    }

    /// Records that `seed` leads to an address of this group. Returns whether it may use it.
    pub(super) fn claim_group(&self, seed: &Seed, group: NetGroup) -> bool {
        self.shared.state().plan.claim_group(seed, group)
    }

    pub(crate) fn wanted(&self, stop: CancellationToken) -> Wanted {
        Wanted::new(self.shared.wanted.subscribe(), stop)
    }

    pub(crate) fn self_checks(&self) -> &SelfChecks {
        &self.self_checks
    }

    pub(super) fn claims(&self) -> &Claims {
        &self.claims
    }

    pub(super) fn dead_ends(&self) -> MutexGuard<'_, DeadEnds> {
        self.dead_ends
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn dial_config(config: &Config) -> DialConfig {
    DialConfig {
        min_peers: config.min_peers,
        max_peers: config.max_peers,
        backoff: Backoff {
            initial: config.backoff,
            factor: 2,
            max: config.backoff_max,
            reset_after: config.backoff_reset,
            ..Backoff::default()
        },
    }
}
