//! The task of one node's overlay: waits, and dials.

use coalescent_core::{Address, Error, Peer, Source, WeakMesh};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::ids::{self, Key};
use super::mirror::CHANNEL;
use super::node::Shared;
use super::state::{After, State};
use crate::discovery::book::{Book, remember};
use crate::discovery::place::Place;

/// Whom a dial is to meet.
#[derive(Clone, Copy, Debug)]
enum Whom {
    /// A peer that the engine wants.
    Peer(Key),
    /// The seed of this number.
    Seed(usize),
}

/// A dial to begin.
#[derive(Debug)]
struct Dial {
    whom: Whom,
    address: Address,
    /// Where the node is that has told the address; `None` if this node has chosen it.
    told: Option<Place>,
}

/// What is due.
struct Due {
    /// When to look again.
    next: Instant,
    /// Whether this node has been alone for a while.
    alone: bool,
    /// Whom to dial now.
    dials: Vec<Dial>,
}

type Ended = (Whom, Result<Peer, Error>);

/// Runs until the mesh ends.
pub(crate) async fn run(shared: &Shared) {
    // While this node is alone, those are dialled too whom other sources suggest.
    let mut one_more = None;
    let mut dials: JoinSet<Option<Ended>> = JoinSet::new();
    loop {
        let due = shared.with(State::due);
        let Some(Due {
            next,
            alone,
            dials: begin,
        }) = due
        else {
            // The mesh has not started yet.
            shared.woken().await;
            continue;
        };
        if let Some(mesh) = shared.mesh() {
            if !alone {
                one_more = None;
            } else if one_more.is_none() {
                one_more = Some(mesh.one_more());
            }
            let mesh = mesh.downgrade();
            for dial in begin {
                dials.spawn(carry_out(mesh.clone(), dial));
            }
        }
        let ended = async {
            match dials.join_next().await {
                Some(ended) => ended,
                None => std::future::pending().await,
            }
        };
        let wait = async {
            tokio::select! {
                // So that a seed fixes what comes first.
                biased;
                () = shared.woken() => None,
                ended = ended => ended.ok().flatten(),
            }
        };
        if let Ok(Some((whom, result))) = timeout_at(next, wait).await {
            shared.with(|state, now, after| state.dialled(whom, result, now, after));
        }
    }
}

async fn carry_out(mesh: WeakMesh, dial: Dial) -> Option<Ended> {
    let mesh = mesh.upgrade()?;
    let result = match dial.told {
        None => mesh.contact(&dial.address, None).await,
        Some(teller) => mesh.contact_told(&dial.address, teller.ip()).await,
    };
    if let Some(book) = mesh.get::<Book>() {
        remember(&book, &dial.address, result.as_ref());
    }
    Some((dial.whom, result))
}

impl State {
    /// Does what is due, and returns what is left to do.
    fn due(&mut self, now: Instant, after: &mut Vec<After>) -> Due {
        let next = self.tick(now, after);
        let mut dials = Vec::new();
        while let Some((number, address)) = self.seeds.due(now) {
            dials.push(Dial {
                whom: Whom::Seed(number),
                address,
                told: None,
            });
        }
        while let Some(key) = self.pending.next_dial() {
            let Some((address, teller)) = self.known.get(&key) else {
                self.pending.dialled();
                self.pending.missed(&key, false, now);
                continue;
            };
            if let Some(mesh) = self.mesh.upgrade() {
                mesh.discovered(&address, Source::OVERLAY);
            }
            dials.push(Dial {
                whom: Whom::Peer(key),
                address,
                told: Some(teller),
            });
        }
        self.stats.dialled += dials.len() as u64;
        let (alone, lonely) = self.has_been_alone(now);
        Due {
            next: lonely.map_or(next, |lonely| next.min(lonely)),
            alone,
            dials,
        }
    }

    fn dialled(
        &mut self,
        whom: Whom,
        result: Result<Peer, Error>,
        now: Instant,
        after: &mut Vec<After>,
    ) {
        let alive = result.as_ref().err().is_some_and(Error::is_busy);
        if let Err(error) = &result {
            self.stats.failed += 1;
            tracing::debug!(?whom, error = %error.report(), "a contact was not made");
        }
        let met = result.ok().filter(Peer::is_connected);
        if let Some(peer) = &met
            && peer.has_channel(CHANNEL)
        {
            let key = ids::of_peer(peer);
            let is_new = key.is_some_and(|key| !self.links.contains_key(&key));
            if is_new {
                self.connected(peer, now, after);
            }
        }
        match whom {
            Whom::Seed(number) => match met {
                Some(peer) if !peer.has_channel(CHANNEL) => self.seeds.met(number, Some(peer)),
                Some(peer) => {
                    self.seeds.met(number, None);
                    // It may have been connected before.
                    if let Some(key) = ids::of_peer(&peer) {
                        self.join_through(key, now, after);
                    }
                }
                None => {
                    let alone = self.is_alone();
                    self.seeds.missed(number, alone, now, &mut self.rng);
                }
            },
            Whom::Peer(key) => {
                self.pending.dialled();
                // Somebody else may live at that address now.
                if !self.links.contains_key(&key) {
                    self.pending.missed(&key, alive, now);
                }
            }
        }
    }
}
