#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod mesh;
#[cfg(feature = "nats")]
mod nats;

use std::collections::HashSet;
use std::fmt::Display;
use std::hash::{BuildHasher, RandomState};
use std::pin::pin;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use coalescent_core::{BoxError, Error, Plugin, Registrar, WeakMesh, report};
use futures_core::Stream;
use futures_sink::Sink;
use futures_util::{SinkExt, StreamExt, stream};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

#[cfg(feature = "nats")]
pub use nats::{NONCE_HEADER, Nats, SUBSCRIBED};

/// How long a message waits for room on the other side before it is dropped. After one was, the
/// next ones do not wait, until there is room again.
pub const GRACE: Duration = Duration::from_secs(1);

/// How many messages a bridge remembers at least, of both sides together; twice as many at most.
pub const REMEMBERED: usize = 65_536;

/// How often lost messages are reported at most.
pub const REPORT: Duration = Duration::from_secs(10);

/// How long a bridge waits before it makes its connection to the mesh again.
const AGAIN: Duration = Duration::from_secs(1);

/// What a bridge hears from its engine.
///
/// ```
/// use coalescent_bridge::Heard;
///
/// /// What is for the application, and what says that something was missed.
/// fn take(heard: Heard) -> Result<bytes::Bytes, u64> {
///     match heard {
///         Heard::Message(_nonce, payload) => Ok(payload),
///         Heard::Missed(messages) => Err(messages),
///     }
/// }
/// assert_eq!(take(Heard::Message(Some(7), "beep".into())), Ok("beep".into()));
/// assert_eq!(take(Heard::Missed(3)), Err(3));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A message, and the nonce that it was said with, if it has one. It may be one that this
    /// bridge has said itself.
    Message(Option<u64>, Bytes),
    /// At least so many messages were not given to this bridge, since it was too slow.
    Missed(u64),
}

/// The other side of a bridge: a [`Sink`] of nonces and payloads, and a [`Stream`] of what is
/// [`Heard`].
///
/// Every type that is both is an engine. The nonce belongs in a header, or before the payload. An
/// error of the sink is about one message alone: it is counted and reported. The engine makes its
/// connection again by itself; the end of the stream is the end of the bridge. Closing the sink
/// writes what was said.
pub trait Engine:
    Sink<(u64, Bytes), Error: Into<BoxError> + Send> + Stream<Item = Heard> + Send + Unpin + 'static
{
}

impl<T> Engine for T where
    T: Sink<(u64, Bytes), Error: Into<BoxError> + Send>
        + Stream<Item = Heard>
        + Send
        + Unpin
        + 'static
{
}

/// Carries what is broadcast in a mesh, or published in a topic, to an [`Engine`] and back.
///
/// A plugin of one or more nodes of the mesh.
///
/// ```
/// use std::pin::Pin;
/// use std::task::{Context, Poll};
///
/// use bytes::Bytes;
/// use coalescent::prelude::*;
/// use coalescent_bridge::{Bridge, Heard};
/// use futures_util::{Sink, Stream};
/// use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
///
/// /// An engine of two channels, in place of a messaging system.
/// struct Channels(UnboundedSender<Bytes>, UnboundedReceiver<Bytes>);
///
/// impl Stream for Channels {
///     type Item = Heard;
///
///     fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Heard>> {
///         self.1.poll_recv(cx).map(|heard| Some(Heard::Message(None, heard?)))
///     }
/// }
///
/// impl Sink<(u64, Bytes)> for Channels {
///     type Error = std::io::Error;
///
///     fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
///         Poll::Ready(Ok(()))
///     }
///
///     fn start_send(self: Pin<&mut Self>, said: (u64, Bytes)) -> Result<(), Self::Error> {
///         let (_nonce, payload) = said;
///         self.0.send(payload).map_err(std::io::Error::other)
///     }
///
///     fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
///         Poll::Ready(Ok(()))
///     }
///
///     fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
///         Poll::Ready(Ok(()))
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (say, mut said) = unbounded_channel();
/// let (tell, told) = unbounded_channel();
/// let bridge = Bridge::new(Channels(say, told));
/// let stats = bridge.stats();
/// let app = App::new().with(SmartRelay::new()).plugin(bridge);
/// let mesh = app.listen("127.0.0.1:0").await?;
/// let other = App::new().seeds([mesh.local_addrs()[0].to_string()]).start().await?;
/// let mut heard = other.reader();
/// mesh.connected(2).await?; // the bridge is a peer too
/// other.connected(1).await?;
///
/// let _ = other.broadcast_payload("to the engine").await?;
/// assert_eq!(said.recv().await, Some(Bytes::from("to the engine")));
/// tell.send("to the mesh".into())?;
/// assert_eq!(heard.next_frame().await.ok_or("it ended")?.payload(), b"to the mesh");
/// assert_eq!(stats.lost(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Bridge<E> {
    engine: Mutex<Option<E>>,
    topic: Option<String>,
    stats: Stats,
}

impl<E: Engine> Bridge<E> {
    /// Creates a bridge of one app to what `engine` reaches. The app needs a relay that knows
    /// copies, such as `SmartRelay`.
    #[must_use]
    pub fn new(engine: E) -> Self {
        Self {
            engine: Mutex::new(Some(engine)),
            topic: None,
            stats: Stats::default(),
        }
    }

    /// Carries the topic `name` of the app's overlay, in place of broadcasts.
    ///
    /// What this node itself publishes in the topic does not cross, and what crosses does not come
    /// back to its own handles: publish and read at other nodes of the mesh.
    #[cfg(feature = "topics")]
    #[must_use]
    pub fn topic(mut self, name: impl Into<String>) -> Self {
        self.topic = Some(name.into());
        self
    }

    /// Returns the counters of this bridge, which go on counting.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats.clone()
    }
}

/// What has crossed a bridge, in messages. Cheap to clone; clones count together.
#[derive(Clone, Debug, Default)]
pub struct Stats(Arc<[AtomicU64; 3]>);

impl Stats {
    /// Returns how many messages of the mesh were given to the engine.
    #[must_use]
    pub fn said(&self) -> u64 {
        self.0[0].load(Relaxed)
    }

    /// Returns how many messages of the engine were given to the mesh.
    #[must_use]
    pub fn entered(&self) -> u64 {
        self.0[1].load(Relaxed)
    }

    /// Returns how many messages have not crossed: one side had no room for them, or refused them,
    /// or this bridge was too slow.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0[2].load(Relaxed)
    }
}

impl<E: Engine> Plugin for Bridge<E> {
    fn register(&self, app: &mut Registrar) {
        let (engine, topic, stats) = (lock(&self.engine).take(), self.topic.clone(), self.stats());
        let (leave, left) = (CancellationToken::new(), CancellationToken::new());
        let (leaving, leaves) = (leave.clone(), left.clone().drop_guard());
        app.on_start(move |mesh| {
            let mesh = mesh.downgrade();
            let tally = Arc::new(Tally::new(mesh, stats));
            // Not a task of the mesh: those end before the mesh has said its last.
            tokio::spawn(async move {
                let _leaves = leaves;
                match engine {
                    Some(engine) => run(engine, topic, tally, leaving).await,
                    None => tally.report("this bridge belongs to another app: make a new one"),
                }
            });
            std::future::ready(())
        });
        app.on_shutdown(move |_| async move {
            leave.cancel();
            left.cancelled().await;
        });
    }
}

/// Carries messages until the mesh or the engine ends, or the mesh leaves.
async fn run<E: Engine>(
    engine: E,
    topic: Option<String>,
    tally: Arc<Tally>,
    leaving: CancellationToken,
) {
    let (mut says, hears) = engine.split();
    let mut hears = hears.filter_map(|heard| {
        std::future::ready(match heard {
            Heard::Message(nonce, payload) => Some((nonce, payload)),
            Heard::Missed(messages) => {
                tally.lose(messages, "this bridge was too slow for its engine");
                None
            }
        })
    });
    while let Some(mesh) = tally.mesh.upgrade() {
        let shore = mesh::open(&mesh, topic.as_deref(), &tally).await;
        drop(mesh);
        let mut shore = match shore {
            Ok(shore) => shore,
            Err(error) if error.is_closed() => break,
            Err(error) => {
                tally.report(error.report());
                sleep(AGAIN).await;
                continue;
            }
        };
        let mut dropped = 0;
        let mut written = pin!(async {
            leaving.cancelled().await;
            if let Some(peer) = &shore.peer {
                peer.flushed().await;
            }
        });
        let mut is_written = false;
        // It ends when all that the mesh had said as it left was heard.
        let mesh_hears = stream::poll_fn(|cx| {
            is_written = is_written || written.as_mut().poll(cx).is_ready();
            let now = (shore.dropped)();
            if now > dropped {
                tally.lose(now - dropped, "the mesh had no room for it");
                dropped = now;
            }
            match shore.hears.as_mut().poll_next(cx) {
                Poll::Pending if is_written => Poll::Ready(None),
                heard => heard,
            }
        });
        tokio::select! {
            () = carry(mesh_hears, &mut says, &tally, 0) => {}
            () = carry(&mut hears, &mut shore.says, &tally, 1) => {
                tally.report("the bridge has ended, as its engine has");
                break;
            }
        }
        if leaving.is_cancelled() {
            break;
        }
        sleep(AGAIN).await;
    }
    match timeout(GRACE, says.close()).await {
        Ok(Ok(())) => {}
        _ => tally.report("the bridge leaves, and the last messages may not have crossed it"),
    }
}

/// Carries what one side hears to the other, until it ends.
async fn carry<S>(
    hears: impl Stream<Item = (Option<u64>, Bytes)>,
    says: &mut S,
    tally: &Tally,
    count: usize,
) where
    S: Sink<(u64, Bytes), Error: Into<BoxError> + Send> + Unpin,
{
    let mut hears = pin!(hears);
    let mut grace = GRACE;
    // What the sink has taken and not written yet: a message or none.
    let mut held = 0;
    let carried = |messages| {
        tally.stats.0[count].fetch_add(messages, Relaxed);
    };
    loop {
        let next = tokio::select! {
            biased;
            written = says.flush(), if held > 0 => {
                match written {
                    Ok(()) => carried(held),
                    Err(error) => tally.lose(held, error),
                }
                held = 0;
                continue;
            }
            next = hears.next() => next,
        };
        let Some((nonce, payload)) = next else { break };
        let name = nonce.unwrap_or_else(|| hash(&payload));
        let is_new = lock(&tally.seen).insert(name, &payload);
        // Who says something without a nonce may say it again; relays know copies of it.
        if !is_new && nonce.is_some() {
            continue;
        }
        let fed = timeout(grace, says.feed((name, payload))).await;
        grace = if fed.is_ok() { GRACE } else { Duration::ZERO };
        match fed {
            Ok(Ok(())) => carried(std::mem::replace(&mut held, 1)),
            Ok(Err(error)) => tally.lose(1 + std::mem::take(&mut held), error),
            Err(_) => tally.lose(1, "the other side has no room"),
        }
    }
    match timeout(grace, says.flush()).await {
        Ok(Ok(())) => carried(held),
        _ => tally.lose(held, "the bridge leaves"),
    }
}

/// What both directions of a bridge share.
#[derive(Debug)]
struct Tally {
    mesh: WeakMesh,
    stats: Stats,
    seen: Mutex<Seen>,
    reported: Mutex<Option<Instant>>,
}

impl Tally {
    fn new(mesh: WeakMesh, stats: Stats) -> Self {
        Self {
            mesh,
            stats,
            seen: Mutex::default(),
            reported: Mutex::default(),
        }
    }

    /// Counts lost messages, and reports them now and then.
    fn lose(&self, messages: u64, why: impl Into<BoxError>) {
        if messages == 0 {
            return;
        }
        let lost = self.stats.0[2].fetch_add(messages, Relaxed) + messages;
        let mut last = lock(&self.reported);
        if last.is_none_or(|last| last.elapsed() >= REPORT) {
            *last = Some(Instant::now());
            self.report(format!(
                "{lost} messages have not crossed the bridge so far, the last one since: {}",
                report(&*why.into())
            ));
        }
    }

    fn report(&self, what: impl Display) {
        if let Some(mesh) = self.mesh.upgrade() {
            mesh.peers().report(Error::plugin(what.to_string()));
        }
    }
}

/// The messages that were heard last, on either side. By nonce and payload: nonces can be guessed.
#[derive(Debug, Default)]
struct Seen {
    hasher: RandomState,
    newer: HashSet<u64>,
    older: HashSet<u64>,
}

impl Seen {
    /// Remembers a message. Returns whether it is new.
    fn insert(&mut self, nonce: u64, payload: &Bytes) -> bool {
        let key = self.hasher.hash_one((nonce, payload));
        if self.older.contains(&key) || !self.newer.insert(key) {
            return false;
        }
        if self.newer.len() >= REMEMBERED {
            self.older = std::mem::take(&mut self.newer);
        }
        true
    }
}

/// Returns the nonce of what has none: the same one at each bridge (FNV-1a, 64 bits).
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_so_many_and_not_many_more() {
        let mut seen = Seen::default();
        let payload = Bytes::new();
        let all = REMEMBERED as u64 * 3;
        for nonce in 0..all {
            assert!(seen.insert(nonce, &payload));
        }
        assert!(seen.newer.len() + seen.older.len() <= 2 * REMEMBERED);
        assert!((all - REMEMBERED as u64..all).all(|nonce| !seen.insert(nonce, &payload)));
    }
}
