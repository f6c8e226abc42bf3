//! Staying connected to seeds.

mod plan;

use crate::address::Address;
use crate::connection::Established;
use crate::error::Error;
use crate::mesh::runtime::Runtime;
use crate::peer::Direction;
use crate::wire::Wire;
use plan::{Backoff, DialConfig, Plan};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

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
    Failed(Seed, Error),
    Connected(Seed),
    /// The seed's node was connected already.
    Already(Seed),
    Lost(Seed),
    /// The seed is this node itself.
    Myself(Seed),
    /// Something changed that is not of a seed.
    Nudge,
}

/// The way to the task that dials.
#[derive(Debug)]
pub(crate) struct Dialer {
    inputs: mpsc::UnboundedSender<Input>,
    elsewhere: Arc<AtomicUsize>,
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

    fn tell(&self, input: Input) {
        // Once the mesh is ending, nobody dials any more.
        let _ = self.inputs.send(input);
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
            Some(Input::Failed(seed, error)) => {
                if plan.failed(&seed, now).is_some() {
                    runtime.peers().node().error(None, error);
                }
            }
            Some(Input::Connected(seed)) => plan.connected(&seed, now),
            Some(Input::Already(seed)) => plan.already(&seed, now),
            Some(Input::Lost(seed)) => {
                plan.lost(&seed, now);
            }
            Some(Input::Myself(seed)) => {
                tracing::info!(seed = %seed.address, "this seed is this node itself");
                plan.forget(&seed);
            }
            Some(Input::Nudge) => {}
        }
    }
}

async fn dial_seed(runtime: Arc<Runtime>, seed: Seed) {
    let dialer = runtime.dialer();
    let connection = match runtime.dial(&seed.address, seed.wire.clone()).await {
        Ok(Established::Connected(connection)) => connection,
        Ok(Established::Myself) => return dialer.tell(Input::Myself(seed)),
        Ok(Established::Already(peer)) => {
            dialer.tell(Input::Already(seed.clone()));
            peer.closed().await;
            return dialer.tell(Input::Lost(seed));
        }
        Err(error) => return dialer.tell(Input::Failed(seed, error)),
    };
    let peer = connection.peer().clone();
    // Where the other node dialled too, the peer may stay connected by that connection.
    let outbound = peer.direction() == Direction::Outbound && !connection.is_retired();
    dialer.tell(if outbound {
        Input::Connected(seed.clone())
    } else {
        Input::Already(seed.clone())
    });
    runtime.run(connection, {
        let runtime = Arc::clone(&runtime);
        async move {
            peer.closed().await;
            runtime.dialer().tell(Input::Lost(seed));
        }
    });
}
