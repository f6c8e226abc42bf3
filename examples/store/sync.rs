//! How replicas come to hold the same: who writes tells everybody, and everybody asks their peers
//! now and then for what they lack.
//!
//! The broadcast is fast, and reaches only who is connected just then. Asking repairs the rest:
//! nodes that come late or come back, networks that were split, broadcasts that were dropped. Both
//! sides of a connection ask, so that what either has goes both ways.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use coalescent::extract::{Body, FromFrameParts, State};
use coalescent::prelude::*;
use coalescent::{BoxError, Error, Router};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::replica::{ENTRIES_MAX, Entry, PAGE_BYTES, Refused, Replica, place};

/// The largest frame: a page, and more than what surrounds it.
pub(crate) const FRAME_MAX: usize = 2 * PAGE_BYTES;

/// How often each peer is asked, on average.
const EVERY: Duration = Duration::from_secs(10);

/// The least pause between two rounds of questions to one peer, on average.
const PAUSE: Duration = Duration::from_millis(500);

/// How long a peer is not asked because another one is. What that one tells need not be asked for
/// twice, but a slow one must not hold up the others.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is held against a peer whose pages never end: all that its budget of errors allows.
const FAULT: u32 = 101;

/// A question for what the asker lacks, a page at a time. The answer is empty if there is no more.
#[derive(Default, Serialize, Deserialize)]
struct Pull {
    /// A digest of each bucket of the asker's.
    have: Vec<u64>,
    /// The last key of the page before.
    after: Option<String>,
}

/// Tells a peer that it is worth asking.
#[derive(Serialize, Deserialize)]
struct News;

message_type! {
    Entry => "store/entry",
    Pull => "store/pull" -> Vec<Entry>,
    News => "store/news",
}

/// The replicated store of one node. Clones share it.
#[derive(Clone)]
pub(crate) struct Store {
    replica: Arc<Mutex<Replica>>,
    /// Held by who asks a peer.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self {
            replica: Arc::new(Mutex::new(Replica::new(rand::random()))),
            turn: Arc::default(),
        }
    }

    /// Writes to a key, or deletes it, here and then everywhere. Without any peers the write stays
    /// here until one comes, and asks.
    pub(crate) async fn write(
        &self,
        mesh: &Mesh,
        key: &str,
        value: Option<&str>,
    ) -> Result<(), BoxError> {
        let entry = self.replica().write(now(), key, value)?;
        let _ = mesh.broadcast_typed(&entry).await?;
        Ok(())
    }

    pub(crate) fn get(&self, key: &str) -> Option<String> {
        self.replica().get(key).map(str::to_owned)
    }

    pub(crate) fn list(&self) -> BTreeMap<String, String> {
        let replica = self.replica();
        let entries = replica.iter();
        entries.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    /// The handlers, to stand within the courier. A relay around it brings writes everywhere.
    pub(crate) fn router(&self) -> Router {
        let router = Router::new().typed(entry).typed(pull).typed(news);
        router.with_state(self.clone())
    }

    fn replica(&self) -> MutexGuard<'_, Replica> {
        self.replica.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros().try_into().unwrap_or(u64::MAX))
}

/// Takes a write that somebody broadcasts. One that is refused is an error event, and counts
/// against nobody: the peer may only have passed it on.
async fn entry(State(store): State<Store>, Body(entry): Body<Entry>) -> Result<(), Refused> {
    store.replica().apply(now(), entry).map(drop)
}

/// Answers with the next page of what the asker lacks.
async fn pull(_: Request, State(store): State<Store>, Body(pull): Body<Pull>) -> impl IntoReply {
    let page = store.replica().page(&pull.have, pull.after.as_deref());
    Message::new("store/page", &page)
}

/// Keeps broadcasts from a handler: one that asked for a page would have each node send one.
struct Request;

impl<S: Sync> FromFrameParts<S> for Request {
    type Rejection = Refusal;

    async fn from_frame_parts(frame: &mut Frame, _: &S) -> Result<Self, Refusal> {
        let refused = || Refusal::new("ask one peer, as a request");
        frame.is_request().then_some(Self).ok_or_else(refused)
    }
}

async fn news(peer: Peer, Body(News): Body<News>) {
    if let Some(Wake(wake)) = peer.get() {
        wake.notify_one();
    }
}

/// Has the peer to which it is attached asked soon.
#[derive(Clone, Default)]
struct Wake(Arc<Notify>);

impl Plugin for Store {
    fn register(&self, app: &mut Registrar) {
        let store = self.clone();
        app.on_connect(move |peer| {
            let wake = Wake::default();
            peer.set(wake.clone());
            // In a task: the frames of a peer wait until its hooks have returned.
            tokio::spawn(keep_up(peer, store.clone(), wake));
            std::future::ready(())
        });
    }
}

/// Asks a peer again and again, until it has gone.
async fn keep_up(peer: Peer, store: Store, Wake(wake): Wake) {
    let asking = async {
        loop {
            let turn = timeout(PATIENCE, store.turn.lock()).await;
            match catch_up(&peer, &store).await {
                Ok(true) => tell_others(&peer),
                Err(error) if !error.is_closed() => peer.peers().report(error),
                _ => {}
            }
            drop(turn);
            sleep(about(PAUSE)).await;
            let _ = timeout(about(EVERY), wake.notified()).await;
        }
    };
    tokio::select! {
        _ = peer.closed() => {}
        () = asking => {}
    }
}

/// Asks a peer for what this node lacks, and returns whether there was anything.
async fn catch_up(peer: &Peer, store: &Store) -> Result<bool, Error> {
    let (mut news, mut taken, mut refused) = (false, 0, None);
    let mut pull = Pull::default();
    loop {
        pull.have = store.replica().digests();
        let page = peer.ask(&pull).await?;
        taken += page.len();
        // Pages that are in order, and together no more than a replica holds, come to an end.
        if !is_ordered(pull.after.as_deref(), &page) || taken > ENTRIES_MAX {
            peer.penalize(FAULT, "its pages are out of order, or never end");
            return Ok(news);
        }
        let Some(last) = page.last() else { break };
        pull.after = Some(last.key.clone());
        let mut replica = store.replica();
        for entry in page {
            match replica.apply(now(), entry) {
                Ok(new) => news |= new,
                Err(why) => refused = Some(why),
            }
        }
    }
    if let Some(why) = refused {
        let why = format!("not taken from {}: {why}", peer.id());
        peer.peers().report(Error::plugin(why));
    }
    Ok(news)
}

fn is_ordered(after: Option<&str>, page: &[Entry]) -> bool {
    let keys = page.iter().map(|entry| entry.key.as_str());
    after
        .into_iter()
        .chain(keys)
        .is_sorted_by(|a, b| place(a) < place(b))
}

/// Tells the peers of what came from one of them, so that a split heals as fast as messages travel.
fn tell_others(from: &Peer) {
    for peer in from.peers().list().iter().filter(|peer| *peer != from) {
        // Whose outbox is full learns of it when it next asks.
        let _ = peer.try_send_typed(&News);
    }
}

/// Spreads what all nodes do, so that they do not do it at once.
fn about(time: Duration) -> Duration {
    time.mul_f64(rand::random_range(0.5..1.5))
}
