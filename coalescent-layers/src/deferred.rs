//! When a frame is relayed: at once, once a layer accepts it, or after its call has succeeded. Used
//! by both relays, and by the overlay for payloads of topics.

use std::pin::Pin;
use std::task::{Context, Poll};

use coalescent_core::{Frame, Held, Registrar, Relay, Verdict};
use pin_project_lite::pin_project;

/// When a relay passes frames on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum When {
    /// Before the rest of the stack sees them; or on a verdict, if a layer further in gives one.
    #[default]
    Either,
    /// Before the rest of the stack sees them.
    AtOnce,
    /// As soon as a layer further in accepts them.
    Accepted,
    /// After the rest of the stack has handled them.
    After,
}

/// On the node's shared values: a relay stands outside of the plugins that are registered next.
#[derive(Clone, Copy, Debug)]
struct RelayOutside;

/// On the node's shared values: a layer inside of a relay gives verdicts.
#[derive(Clone, Copy, Debug)]
struct VerdictsInside;

/// On the node's shared values: an overlay stands outside of the plugins that are registered next.
#[derive(Clone, Copy, Debug)]
struct TopicsOutside;

/// On the node's shared values: a layer inside of the overlay gives verdicts.
#[derive(Clone, Copy, Debug)]
struct TopicVerdictsInside;

/// Registers a layer that passes payloads of topics on.
#[cfg(feature = "overlay")]
pub(crate) fn register_topics(app: &mut Registrar) {
    app.insert(TopicsOutside);
}

/// Registers a relay.
pub(crate) fn register_relay(app: &mut Registrar) {
    app.relays();
    app.insert(RelayOutside);
}

/// Registers a layer that gives verdicts to the relays that were registered before.
pub(crate) fn register_verdicts(app: &mut Registrar) {
    if app.get::<RelayOutside>().is_some() {
        app.insert(VerdictsInside);
    }
    if app.get::<TopicsOutside>().is_some() {
        app.insert(TopicVerdictsInside);
    }
}

impl When {
    /// Finds out, with the first frame, whether a layer further in gives verdicts.
    #[inline]
    pub(crate) fn settled(&mut self, frame: &Frame) -> Self {
        self.settled_by::<VerdictsInside>(frame)
    }

    /// Finds out, with the first payload of a topic, whether a layer further in gives verdicts.
    #[cfg(feature = "overlay")]
    pub(crate) fn settled_for_topics(&mut self, frame: &Frame) -> Self {
        self.settled_by::<TopicVerdictsInside>(frame)
    }

    #[inline]
    fn settled_by<V: Clone + Send + Sync + 'static>(&mut self, frame: &Frame) -> Self {
        if *self == Self::Either {
            self.find_out::<V>(frame);
        }
        *self
    }

    #[cold]
    fn find_out<V: Clone + Send + Sync + 'static>(&mut self, frame: &Frame) {
        let verdicts = frame.peer().peers().get_shared::<V>();
        *self = match verdicts {
            Some(_) => Self::Accepted,
            None => Self::AtOnce,
        };
    }

    /// Whether a verdict of a layer further in counts.
    pub(crate) fn waits(self) -> bool {
        matches!(self, Self::Accepted | Self::After)
    }
}

/// What a relay does about the verdict.
pub(crate) trait Settle {
    /// The verdict is not there yet when the call was polled first.
    fn wait(&mut self) {}

    /// This is the verdict.
    fn settle(&mut self, verdict: Verdict) {
        let _ = verdict;
    }
}

impl Settle for () {}

/// Relays `frame` now, or returns a [`Deferred`] to be passed to the [`RelayFuture`] of its call.
#[inline]
pub(crate) fn relay<O: Settle>(
    frame: &mut Frame,
    relay: Relay,
    when: When,
    open: impl FnOnce() -> O,
) -> Option<Box<Deferred<O>>> {
    if when.waits() {
        return defer(frame, relay, when, open());
    }
    frame.relay(relay);
    None
}

#[inline(never)]
fn defer<O: Settle>(
    frame: &mut Frame,
    relay: Relay,
    when: When,
    open: O,
) -> Option<Box<Deferred<O>>> {
    if !frame.is_broadcast() && (!relay.direct || frame.is_request()) {
        return None;
    }
    let (held, after) = if when == When::After {
        let held = frame.watch(relay);
        (held, Some((frame.clone(), relay)))
    } else {
        (frame.hold(relay), None)
    };
    Some(Box::new(Deferred { held, after, open }))
}

/// A frame that is relayed once it is accepted, or once its call has succeeded.
#[derive(Debug)]
pub(crate) struct Deferred<O: Settle> {
    held: Held,
    /// The frame as the relay has seen it, if it is relayed after its call.
    after: Option<(Frame, Relay)>,
    open: O,
}

impl<O: Settle> Deferred<O> {
    /// The call has not ended. Returns whether there is nothing more to wait for.
    #[cold]
    fn is_settled(&mut self, cx: &mut Context<'_>) -> bool {
        if self.after.is_none() && self.held.poll_verdict(cx).is_ready() {
            return true;
        }
        self.open.wait();
        false
    }

    /// The call has ended, with success or not.
    fn end(&mut self, success: bool) {
        match &self.after {
            None => {
                self.held.verdict_or(Verdict::Ignore);
            }
            Some((frame, relay)) if success => {
                if self.held.verdict_or(Verdict::Accept) == Verdict::Accept {
                    frame.relay(*relay);
                }
            }
            Some(_) => {}
        }
    }
}

impl<O: Settle> Drop for Deferred<O> {
    fn drop(&mut self) {
        // What nobody has judged, since its connection has ended, may come another way. After a
        // handler may have begun, it must not.
        let otherwise = match self.after {
            None => Verdict::Retry,
            Some(_) => Verdict::Ignore,
        };
        let verdict = self.held.verdict_or(otherwise);
        self.open.settle(verdict);
    }
}

pin_project! {
    /// Polls the inner call, and relays its frame if relaying was deferred.
    #[derive(Debug)]
    pub(crate) struct RelayFuture<F, O>
    where
        O: Settle,
    {
        #[pin]
        call: F,
        // Boxed because deferring is rare: the common case pays for one pointer only.
        deferred: Option<Box<Deferred<O>>>,
    }
}

impl<F, O: Settle> RelayFuture<F, O> {
    #[inline]
    pub(crate) fn new(call: F, deferred: Option<Box<Deferred<O>>>) -> Self {
        Self { call, deferred }
    }
}

impl<F, T, E, O> Future for RelayFuture<F, O>
where
    F: Future<Output = Result<T, E>>,
    O: Settle,
{
    type Output = Result<T, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(deferred) = this.deferred else {
            return this.call.poll(cx);
        };
        let polled = this.call.poll(cx);
        let is_over = match &polled {
            Poll::Pending => deferred.is_settled(cx),
            Poll::Ready(result) => {
                deferred.end(result.is_ok());
                true
            }
        };
        if is_over {
            *this.deferred = None;
        }
        polled
    }
}
