//! The task of a bridge: the mesh on one side, the engine on the other, and the clock.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use coalescent_core::{BoxError, Error, WeakMesh};
use futures_util::future::poll_fn;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, Sleep, sleep};

use crate::Stats;
use crate::bridge::clipped;
use crate::crossing::Crossing;
use crate::engine::{Carried, Engine, Heard, Said};
use crate::shore::{Shore, What};

/// How long to wait before the connection to the own node is made again.
const AGAIN: Duration = Duration::from_secs(1);

/// How often a loss is reported at most.
const REPORT: Duration = Duration::from_secs(10);

/// How long a sleep lasts at most, where there is nothing to wait for.
const IDLE: Duration = Duration::from_secs(60);

/// What the task of a bridge begins with.
pub(crate) struct Parts<E> {
    pub(crate) engine: E,
    pub(crate) group: Option<String>,
    pub(crate) hold: usize,
    pub(crate) what: What,
    pub(crate) stats: Arc<watch::Sender<Stats>>,
    /// Asks to carry all that the mesh has said, and to leave then.
    pub(crate) asked: mpsc::Receiver<oneshot::Sender<()>>,
}

/// Waits until the bridge has carried all that the mesh has said, and has left.
pub(crate) async fn drain(ask: mpsc::Sender<oneshot::Sender<()>>) {
    let (done, left) = oneshot::channel();
    if ask.send(done).await.is_ok() {
        let _ = left.await;
    }
}

/// Runs a bridge until the mesh or the engine ends.
pub(crate) async fn run<E: Engine>(mesh: WeakMesh, parts: Parts<E>) {
    let Some(group) = mesh.upgrade().map(|mesh| {
        let network = || mesh.peers().config().network.clone();
        clipped(parts.group.unwrap_or_else(network))
    }) else {
        return;
    };
    let mut task = Task {
        crossing: Crossing::new(rand::random(), group, parts.hold, Instant::now()),
        mesh,
        engine: parts.engine,
        stats: parts.stats,
        asked: parts.asked,
        reported: (0, None),
        mesh_first: false,
    };
    while let Some(mesh) = task.mesh.upgrade() {
        let shore = Shore::open(&parts.what, &mesh).await;
        drop(mesh);
        match shore {
            Ok(shore) => {
                if task.carry(shore).await.is_break() {
                    break;
                }
            }
            Err(error) if error.is_closed() => break,
            Err(error) => task.report(error),
        }
        sleep(AGAIN).await;
    }
    task.crossing.give_up();
    task.tell(Instant::now());
}

struct Task<E> {
    mesh: WeakMesh,
    engine: E,
    crossing: Crossing,
    stats: Arc<watch::Sender<Stats>>,
    asked: mpsc::Receiver<oneshot::Sender<()>>,
    /// How many lost messages were reported, and when last.
    reported: (u64, Option<Instant>),
    /// Which side is asked first for what it says.
    mesh_first: bool,
}

/// What happened next.
enum Step {
    FromMesh(Carried),
    FromEngine(Heard),
    /// The mesh can take a message, or the engine what is said to it.
    MeshReady,
    EngineReady,
    Asked(oneshot::Sender<()>),
    /// All that the mesh had said when this bridge was asked to leave is in its pipe.
    Written,
    Time,
    /// The connection to the node has ended.
    Closed,
    /// The engine has ended, for this reason.
    Ended(String),
}

/// What waits for one side to be ready.
#[derive(Default)]
struct Ready {
    to_mesh: Option<Carried>,
    to_engine: Option<Said>,
}

/// Whether this bridge was asked to leave, and by whom.
enum Leaving {
    No,
    /// What the mesh has said is still on its way to this bridge.
    Writing(
        Pin<Box<dyn Future<Output = ()> + Send>>,
        oneshot::Sender<()>,
    ),
    /// As soon as all of it has crossed.
    Soon(#[allow(dead_code, reason = "dropping it is what tells")] oneshot::Sender<()>),
}

impl Leaving {
    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        match self {
            Self::Writing(written, _) => written.as_mut().poll(cx).map(|()| Step::Written),
            _ => Poll::Pending,
        }
    }

    fn soon(self) -> Self {
        match self {
            Self::Writing(_, asked) => Self::Soon(asked),
            other => other,
        }
    }
}

type Flow = std::ops::ControlFlow<()>;

impl<E: Engine> Task<E> {
    /// Carries messages until the connection to the node ends, which may be made again, or the
    /// engine does.
    async fn carry(&mut self, mut shore: Shore) -> Flow {
        let mut leaving = Leaving::No;
        let mut ready = Ready::default();
        let mut alarm = pin!(sleep(IDLE));
        loop {
            let now = Instant::now();
            if ready.to_mesh.is_none() {
                ready.to_mesh = self.crossing.next_for_mesh(now);
            }
            if ready.to_engine.is_none() {
                ready.to_engine = self.crossing.next_for_engine(now);
            }
            self.tell(now);
            if matches!(leaving, Leaving::Soon(_)) && self.crossing.is_done() {
                let _ = self.engine.send(self.crossing.farewell()).await;
                // Dropping `leaving` tells whoever waits.
                return Flow::Break(());
            }
            let wake = self.crossing.wake().unwrap_or(now + IDLE);
            alarm.as_mut().reset(wake);
            let step = poll_fn(|cx| {
                if let Poll::Ready(step) = leaving.poll_written(cx) {
                    return Poll::Ready(step);
                }
                self.poll_step(cx, &mut shore, &ready, alarm.as_mut())
            })
            .await;
            let now = Instant::now();
            match step {
                Step::FromMesh(message) => self.crossing.mesh_says(message, now),
                Step::FromEngine(heard) => self.crossing.engine_says(heard, rand::random(), now),
                Step::EngineReady => ready
                    .to_engine
                    .take()
                    .into_iter()
                    .for_each(|said| self.say(said)),
                Step::MeshReady => {
                    let message = ready.to_mesh.take();
                    if let Some(Err(error)) = message.map(|message| shore.say(message)) {
                        tracing::warn!(%error, "a message cannot be carried into the mesh");
                        self.crossing.mesh_refused();
                    }
                }
                Step::Asked(asked) => leaving = Leaving::Writing(shore.written(), asked),
                Step::Written => {
                    let mut rest = || poll_fn(|cx| shore.poll_hear(cx)).now_or_never().flatten();
                    while let Some(message) = rest() {
                        self.crossing.mesh_says(message, now);
                    }
                    leaving = leaving.soon();
                }
                Step::Time => {}
                Step::Closed => return Flow::Continue(()),
                Step::Ended(why) => {
                    self.report(Error::plugin(format!(
                        "the bridge has ended, as its engine has: {why}"
                    )));
                    return Flow::Break(());
                }
            }
        }
    }

    /// Polls both sides and the clock for what happens next. Neither side waits for the other.
    fn poll_step(
        &mut self,
        cx: &mut Context<'_>,
        shore: &mut Shore,
        ready: &Ready,
        alarm: Pin<&mut Sleep>,
    ) -> Poll<Step> {
        if let Poll::Ready(Some(asked)) = self.asked.poll_recv(cx) {
            return Poll::Ready(Step::Asked(asked));
        }
        // What goes out comes first, so that what comes in finds room.
        if ready.to_engine.is_some() {
            match self.engine.poll_ready_unpin(cx) {
                Poll::Ready(Ok(())) => return Poll::Ready(Step::EngineReady),
                Poll::Ready(Err(error)) => {
                    let error: BoxError = error.into();
                    return Poll::Ready(Step::Ended(error.to_string()));
                }
                Poll::Pending => {}
            }
        }
        if ready.to_mesh.is_some()
            && let Poll::Ready(result) = shore.poll_ready(cx)
        {
            let step = result.map_or(Step::Closed, |()| Step::MeshReady);
            return Poll::Ready(step);
        }
        // The sides take turns, so that neither keeps the other from being heard.
        self.mesh_first = !self.mesh_first;
        for mesh in [self.mesh_first, !self.mesh_first] {
            let step = if mesh {
                let message = shore.poll_hear(cx);
                message.map(|message| message.map_or(Step::Closed, Step::FromMesh))
            } else if self.crossing.hears_engine() {
                let heard = self.engine.poll_next_unpin(cx);
                heard.map(|heard| heard.map_or_else(closed, Step::FromEngine))
            } else {
                Poll::Pending
            };
            if step.is_ready() {
                return step;
            }
        }
        // There is nothing more to do for now: write what both have taken. Whichever has failed
        // says so when it is used next.
        shore.poll_flush(cx);
        let _ = self.engine.poll_flush_unpin(cx);
        alarm.poll(cx).map(|()| Step::Time)
    }

    fn say(&mut self, said: Said) {
        let message = match &said {
            Said::Message(message) => Some(message.clone()),
            Said::Note(_) => None,
        };
        if let Err(error) = self.engine.start_send_unpin(said) {
            let error: BoxError = error.into();
            tracing::warn!(%error, "a message cannot be carried out of the mesh");
            if let Some(message) = message {
                self.crossing.refused(&message);
            }
        }
    }

    /// Updates the counters, and reports what was lost.
    fn tell(&mut self, now: Instant) {
        let stats = self.crossing.stats();
        self.stats
            .send_if_modified(|told| std::mem::replace(told, stats) != stats);
        let (lost, last) = self.reported;
        let due = last.is_none_or(|last| now.duration_since(last) >= REPORT);
        if stats.lost() > lost && due {
            self.reported = (stats.lost(), Some(now));
            self.report(Error::plugin(format!(
                "{} messages have not crossed the bridge ({} in all): {} dropped, {} too large, {} \
                 unconfirmed, {} missed",
                stats.lost() - lost,
                stats.lost(),
                stats.dropped,
                stats.refused,
                stats.unconfirmed,
                stats.missed,
            )));
        }
    }

    fn report(&self, error: Error) {
        if let Some(mesh) = self.mesh.upgrade() {
            mesh.peers().report(error);
        }
    }
}

fn closed() -> Step {
    Step::Ended("it is closed".to_owned())
}
