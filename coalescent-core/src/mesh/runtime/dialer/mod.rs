//! Staying connected to seeds.

mod dial;
mod ends;
mod facts;
mod plan;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use dial::{Dial, Dialled, dial};
pub(crate) use ends::{Ends, Met, is_within};
use facts::Facts;
use plan::{Backoff, DialConfig, Plan};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::error::Error;
use crate::mesh::runtime::Runtime;
use crate::transport::Direction;
use crate::transport::address::Address;
use crate::wire::Wire;

/// Where to dial, and what is spoken there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seed {
    pub(crate) address: Address,
    pub(crate) wire: Option<Wire>,
}

impl std::hash::Hash for Seed {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.address.hash(state);
    }
}

impl Seed {
    /// Reads `[ID@]HOST:PORT`.
    ///
    /// # Errors
    ///
    /// Where it is none.
    pub(crate) fn parse(addr: &str, wire: Option<Wire>) -> Result<Self, Error> {
        let address = addr
            .parse()
            .map_err(|error| Error::config(format!("{error}")))?;
        Ok(Self { address, wire })
    }
}

/// What happens to seeds.
#[derive(Debug)]
pub(crate) enum Input {
    Add(Seed),
    /// A dial has ended, or a connection with it.
    Now {
        seed: Seed,
        state: Became,
        /// An address of the seed's that is this node itself, where there was one.
        itself: Option<Error>,
    },
    /// Something changed that is not of a seed.
    Nudge,
}

/// What a seed has become.
#[derive(Debug)]
pub(crate) enum Became {
    /// It was not reached. There is nothing to say of it where it is this node alone.
    Failed(Option<Error>),
    Connected,
    /// Its node was connected already.
    Already,
    Lost,
}

/// The way to the task that dials.
#[derive(Debug)]
pub(crate) struct Dialer {
    inputs: mpsc::UnboundedSender<Input>,
    elsewhere: Arc<AtomicUsize>,
    ends: Ends,
    facts: Mutex<Facts>,
}

/// One outbound connection that is not to a seed, counted while this lives.
#[derive(Debug)]
pub(crate) struct Elsewhere(Arc<AtomicUsize>);

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Dialer {
    /// The inputs are unbounded, but few: one or two for each dial, and dials are bounded.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Input>) {
        let (inputs, receiver) = mpsc::unbounded_channel();
        (
            Self {
                inputs,
                elsewhere: Arc::default(),
                ends: Ends::default(),
                facts: Mutex::default(),
            },
            receiver,
        )
    }

    pub(crate) fn add(&self, seed: Seed) {
        self.tell(Input::Add(seed));
    }

    pub(crate) fn elsewhere(&self) -> Elsewhere {
        self.elsewhere.fetch_add(1, Ordering::Relaxed);
        self.nudge();
        Elsewhere(Arc::clone(&self.elsewhere))
    }

    pub(crate) fn nudge(&self) {
        self.tell(Input::Nudge);
    }

    /// Which connections lead back to this node.
    pub(crate) fn ends(&self) -> &Ends {
        &self.ends
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, input: Input) {
        // Once the mesh is ending, nobody dials any more.
        let _ = self.inputs.send(input);
    }

    fn now(&self, seed: &Seed, state: Became, itself: Option<Error>) {
        self.tell(Input::Now {
            seed: seed.clone(),
            state,
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
    let config = runtime.peers().config();
    let dial_config = DialConfig {
        min_peers: config.min_peers,
        max_peers: config.max_peers,
        backoff: Backoff {
            initial: config.backoff,
            factor: 2,
            max: config.backoff_max,
            reset_after: config.backoff_reset,
            ..Backoff::default()
        },
    };
    let mut plan = Plan::new(seeds, dial_config, rand::random());
    loop {
        plan.outbound_elsewhere(runtime.dialer().elsewhere.load(Ordering::Relaxed));
        let now = Instant::now();
        for dial in plan.due(now) {
            tracing::debug!(seed = %dial.seed.address, failures = dial.failures, "dialling");
            runtime.spawn(dial_seed(Arc::clone(&runtime), dial.seed));
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
        let now = Instant::now();
        match input {
            None => return,
            Some(Input::Add(seed)) => plan.add_seed(seed),
            Some(Input::Now {
                seed,
                state,
                itself,
            }) => {
                if let Some(error) = plan.itself(&seed, itself) {
                    runtime.peers().node().error(None, error);
                }
                match state {
                    Became::Connected => plan.connected(&seed, now),
                    Became::Already => plan.already(&seed, now),
                    Became::Lost => drop(plan.lost(&seed, now)),
                    Became::Failed(error) => {
                        if let (Some(_), Some(error)) = (plan.failed(&seed, now), error) {
                            runtime.peers().node().error(None, error);
                        }
                    }
                }
            }
            Some(Input::Nudge) => {}
        }
    }
}

async fn dial_seed(runtime: Arc<Runtime>, seed: Seed) {
    let dialer = runtime.dialer();
    let Dial { result, itself } = dial(&runtime, &seed, true).await;
    let (connection, way) = match result {
        Ok(Dialled::Peer(peer)) => *peer,
        Ok(Dialled::Already(peer)) => {
            dialer.now(&seed, Became::Already, itself);
            peer.closed().await;
            return dialer.now(&seed, Became::Lost, None);
        }
        Ok(Dialled::Taken(freed)) => {
            dialer.now(&seed, Became::Already, itself);
            freed.cancelled().await;
            return dialer.now(&seed, Became::Lost, None);
        }
        Err(error) => {
            let news = Some(error).filter(|error| !error.is_itself());
            return dialer.now(&seed, Became::Failed(news), itself);
        }
    };
    let peer = connection.peer().clone();
    // Where the other node dialled too, the peer may stay connected by that connection.
    let outbound = peer.direction() == Direction::Outbound && !connection.is_retired();
    let state = if outbound {
        Became::Connected
    } else {
        Became::Already
    };
    dialer.now(&seed, state, itself);
    runtime.run(connection, {
        let runtime = Arc::clone(&runtime);
        async move {
            peer.closed().await;
            runtime.dialer().now(&seed, Became::Lost, way.itself());
        }
    });
}
