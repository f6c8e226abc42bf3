//! The service: passes frames of topics inward, and their payloads on.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use coalescent_core::{Flow, Frame, Held, Relay, Reply, Verdict};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::handed::Handed;
use crate::deferred::When;

/// The service that [`Overlay`](crate::Overlay) puts around one peer's stack.
#[derive(Clone, Debug)]
pub struct OverlayService<S> {
    inner: S,
    when: When,
}

impl<S> OverlayService<S> {
    pub(crate) fn new(inner: S, when: When) -> Self {
        Self { inner, when }
    }

    crate::macros::inner_accessors!(S);
}

impl<S> Service<Frame> for OverlayService<S>
where
    S: Service<Frame, Response = Reply>,
{
    type Response = Reply;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, mut frame: Frame) -> Self::Future {
        let topic = match frame.extensions().get::<Handed>() {
            None => None,
            Some(_) => self.take(&mut frame),
        };
        ResponseFuture {
            inner: self.inner.call(frame),
            topic,
            reply: None,
        }
    }
}

impl<S> OverlayService<S> {
    #[cold]
    fn take(&mut self, frame: &mut Frame) -> Option<Box<Passing>> {
        let handed: Handed = frame.extensions_mut().remove()?;
        let mut passing = Passing {
            handed,
            held: None,
            sending: None,
        };
        if self.when.settled_for_topics(frame).waits() {
            passing.held = Some(frame.watch(Relay::new(Flow::Drop)));
        } else {
            passing.settle(Verdict::Accept);
        }
        let waits = passing.held.is_some() || passing.sending.is_some();
        waits.then(|| Box::new(passing))
    }
}

/// A payload on its way to the neighbours.
struct Passing {
    handed: Handed,
    /// The verdict that is waited for.
    held: Option<Held>,
    /// Waits for room at neighbours.
    sending: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Passing {
    fn settle(&mut self, verdict: Verdict) {
        self.held = None;
        let late = self.handed.settle(verdict);
        self.sending = late.map(|late| Box::pin(late.wait_briefly()) as Pin<Box<_>>);
    }

    /// Passes the payload on once it is accepted, while the call goes on.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(held) = &self.held {
            let verdict = ready!(held.poll_verdict(cx));
            self.settle(verdict);
        }
        if let Some(sending) = &mut self.sending {
            ready!(sending.as_mut().poll(cx));
            self.sending = None;
        }
        Poll::Ready(())
    }

    /// Notes that the call has ended: what nobody has accepted is not passed on.
    fn end(&mut self) {
        if let Some(held) = &self.held {
            let verdict = held.verdict_or(Verdict::Ignore);
            self.settle(verdict);
        }
    }
}

impl std::fmt::Debug for Passing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passing")
            .field("held", &self.held)
            .field("sends", &self.sending.is_some())
            .finish_non_exhaustive()
    }
}

pin_project! {
    /// The response future of [`OverlayService`].
    pub struct ResponseFuture<F>
    where
        F: Future,
    {
        #[pin]
        inner: F,
        // `None` for frames that are no payloads of topics, and when nothing is waited for.
        topic: Option<Box<Passing>>,
        // What the call has returned while payloads wait for room.
        reply: Option<F::Output>,
    }
}

impl<F: Future> std::fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

impl<F, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Reply, E>>,
{
    type Output = Result<Reply, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(topic) = this.topic else {
            return this.inner.poll(cx);
        };
        if this.reply.is_none() {
            match this.inner.poll(cx) {
                Poll::Pending => {
                    let _ = topic.poll(cx);
                    return Poll::Pending;
                }
                Poll::Ready(reply) => {
                    topic.end();
                    *this.reply = Some(reply);
                }
            }
        }
        ready!(topic.poll(cx));
        match this.reply.take() {
            Some(reply) => Poll::Ready(reply),
            None => Poll::Pending,
        }
    }
}
