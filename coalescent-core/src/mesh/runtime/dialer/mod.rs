//! Staying connected to seeds.
//!
//! | file | what it does |
//! |---|---|
//! | this file | the task that dials what the plan says, and tells it the results |
//! | [`plan`] | decides which seed to dial when |
//! | [`mod@dial`] | makes one connection |
//! | [`self_check`] | finds connections that lead back to this node |
//! | [`claims`] | finds seeds that resolve to the same address |
//! | [`dead_ends`] | remembers addresses at which no peer was found |
//! | [`addresses`] | compares addresses |

mod addresses;
mod claims;
mod connect;
mod dead_ends;
mod dial;
mod plan;
mod self_check;

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use addresses::is_within;
use claims::Claims;
use dead_ends::DeadEnds;
pub(crate) use dial::{DialResult, Dialled, dial};
use plan::{Backoff, DialConfig, Plan};
pub(crate) use self_check::{SelfCheck, SelfChecks};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::config::Config;
use crate::error::Error;
use crate::mesh::runtime::Runtime;
use crate::transport::Direction;
use crate::transport::address::Address;
use crate::wire::Wire;

/// An address to stay connected to, and the wire to use there if it is not the app's.
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

impl Seed {
    /// Parses `[ID@]HOST:PORT`.
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

/// A message to the task that dials.
#[derive(Debug)]
pub(crate) enum Input {
    Add(Seed),
    /// A dial of a seed has ended, or the connection to it.
    Changed {
        seed: Seed,
        change: SeedChange,
        /// The error to report if this node itself was at one of the seed's addresses.
        itself: Option<Error>,
    },
    /// The number of other outbound connections has changed.
    Nudge,
}

/// What has happened to a seed.
#[derive(Debug)]
pub(crate) enum SeedChange {
    /// The dial failed, with the error to report. There is none if only this node itself was there.
    Failed(Option<Error>),
    /// This node's dial has made a connection.
    Connected,
    /// The seed's node is connected by another connection.
    Already,
    /// The connection to the seed's node has ended, whichever it was.
    Lost,
}

/// The mesh's handle to the task that dials, and what dials share.
#[derive(Debug)]
pub(crate) struct Dialer {
    inputs: mpsc::UnboundedSender<Input>,
    /// The number of outbound connections that belong to no seed.
    unseeded: Arc<AtomicUsize>,
    self_checks: SelfChecks,
    claims: Claims,
    dead_ends: Mutex<DeadEnds>,
}

/// An outbound connection that belongs to no seed, counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Unseeded(Arc<AtomicUsize>);

impl Drop for Unseeded {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Dialer {
    /// Makes a dialer, and the inputs for [`run`]. The channel is unbounded, but holds few inputs:
    /// one or two for each dial, and the number of dials is bounded.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Input>) {
        let (inputs, receiver) = mpsc::unbounded_channel();
        let dialer = Self {
            inputs,
            unseeded: Arc::default(),
            self_checks: SelfChecks::default(),
            claims: Claims::default(),
            dead_ends: Mutex::default(),
        };
        (dialer, receiver)
    }

    pub(crate) fn add(&self, seed: Seed) {
        self.send(Input::Add(seed));
    }

    /// Counts an outbound connection that belongs to no seed.
    pub(crate) fn count_unseeded(&self) -> Unseeded {
        self.unseeded.fetch_add(1, Ordering::Relaxed);
        self.nudge();
        Unseeded(Arc::clone(&self.unseeded))
    }

    pub(crate) fn nudge(&self) {
        self.send(Input::Nudge);
    }

    pub(crate) fn self_checks(&self) -> &SelfChecks {
        &self.self_checks
    }

    fn claims(&self) -> &Claims {
        &self.claims
    }

    fn dead_ends(&self) -> MutexGuard<'_, DeadEnds> {
        self.dead_ends
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, input: Input) {
        // The task is gone only when the mesh ends, and then nobody dials.
        let _ = self.inputs.send(input);
    }

    fn changed(&self, seed: &Seed, change: SeedChange, itself: Option<Error>) {
        self.send(Input::Changed {
            seed: seed.clone(),
            change,
            itself,
        });
    }
}

/// Dials seeds until it is dropped.
pub(crate) async fn run(
    runtime: Arc<Runtime>,
    seeds: Vec<Seed>,
    mut inputs: mpsc::UnboundedReceiver<Input>,
) {
    let config = dial_config(runtime.peers().config());
    let mut plan = Plan::new(seeds, config, rand::random());
    loop {
        plan.set_unseeded(runtime.dialer().unseeded.load(Ordering::Relaxed));
        let now = Instant::now();
        for due in plan.due(now) {
            tracing::debug!(seed = %due.seed.address, failures = due.failures, "dialling");
            runtime.spawn(dial_seed(Arc::clone(&runtime), due.seed));
        }
        let next = plan.next(now);
        let wait = async {
            match next {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let input = tokio::select! {
            input = inputs.recv() => input,
            () = wait => continue,
        };
        let Some(input) = input else { return };
        for error in update(&mut plan, input, Instant::now())
            .into_iter()
            .flatten()
        {
            runtime.peers().node().error(None, error);
        }
    }
}

/// Tells the plan what has happened. Returns the errors to report.
fn update(plan: &mut Plan<Seed>, input: Input, now: Instant) -> [Option<Error>; 2] {
    let (seed, change, itself) = match input {
        Input::Add(seed) => {
            plan.add_seed(seed);
            return [None, None];
        }
        Input::Nudge => return [None, None],
        Input::Changed {
            seed,
            change,
            itself,
        } => (seed, change, itself),
    };
    let itself = plan.note_itself(&seed, itself);
    let failed = match change {
        SeedChange::Failed(error) => plan.failed(&seed, now).and(error),
        SeedChange::Connected => {
            plan.connected(&seed, now);
            None
        }
        SeedChange::Already => {
            plan.already(&seed, now);
            None
        }
        SeedChange::Lost => {
            plan.lost(&seed, now);
            None
        }
    };
    [itself, failed]
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

async fn dial_seed(runtime: Arc<Runtime>, seed: Seed) {
    let dialer = runtime.dialer();
    let DialResult { result, itself } = dial(&runtime, &seed, true).await;
    let (connection, guard) = match result {
        Ok(Dialled::Peer(peer)) => *peer,
        Ok(Dialled::Already(peer)) => {
            dialer.changed(&seed, SeedChange::Already, itself);
            peer.closed().await;
            return dialer.changed(&seed, SeedChange::Lost, None);
        }
        Ok(Dialled::Claimed(released)) => {
            dialer.changed(&seed, SeedChange::Already, itself);
            released.cancelled().await;
            return dialer.changed(&seed, SeedChange::Lost, None);
        }
        Err(error) => {
            // `itself` reports that only this node was there.
            let error = Some(error).filter(|error| !error.is_itself());
            return dialer.changed(&seed, SeedChange::Failed(error), itself);
        }
    };
    let peer = connection.peer().clone();
    // If the other node has dialled too, the peer may stay connected by that connection instead.
    let outbound = peer.direction() == Direction::Outbound && !connection.is_retired();
    let change = if outbound {
        SeedChange::Connected
    } else {
        SeedChange::Already
    };
    dialer.changed(&seed, change, itself);
    runtime.run(connection, {
        let runtime = Arc::clone(&runtime);
        async move {
            peer.closed().await;
            let itself = guard.itself();
            runtime.dialer().changed(&seed, SeedChange::Lost, itself);
        }
    });
}
