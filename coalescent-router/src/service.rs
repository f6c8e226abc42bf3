//! The service that routes the frames of one peer.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use coalescent_core::{BoxError, CloneService, Frame, Reply, TopicName};
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::route::ObservedFuture;
use crate::table::{LiveTable, Table};

/// The service of a [`Router`](crate::Router): passes frames to their handlers, then to the inner
/// service.
///
/// Each peer has its own reference to the table; handlers and their layers are shared by all peers.
/// The service is ready when its inner service is. A frame without a handler costs no allocation, a
/// frame with a handler costs one.
pub struct RouterService<I> {
    inner: I,
    live: Arc<LiveTable<()>>,
    table: Arc<Table<()>>,
    generation: u64,
}

impl<I> RouterService<I> {
    pub(crate) fn new(live: Arc<LiveTable<()>>, inner: I) -> Self {
        // In this order, a concurrent change is picked up a second time rather than missed.
        let generation = live.generation();
        let table = live.table();
        Self {
            inner,
            live,
            table,
            generation,
        }
    }

    crate::macros::inner_accessors!(I);

    fn refresh(&mut self) {
        let generation = self.live.generation();
        if generation != self.generation {
            self.table = self.live.table();
            self.generation = generation;
        }
    }
}

impl<I> Service<Frame> for RouterService<I>
where
    I: Service<Frame, Response = Reply, Error: Into<BoxError>> + CloneService,
{
    type Response = Reply;
    type Error = BoxError;
    type Future = RouterFuture<I>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut frame: Frame) -> RouterFuture<I> {
        self.refresh();
        let endpoint = match frame.message() {
            Some(message) => match frame.extensions().get::<TopicName>() {
                Some(topic) => self.table.find_in(topic, message.kind_bytes()),
                None => self.table.find(message.kind_bytes()),
            },
            None => {
                self.live.warn_no_message();
                None
            }
        };
        let Some(endpoint) = endpoint else {
            return RouterFuture::inner(self.inner.call(frame));
        };
        // The ready inner service moves with the frame, together with any permit it holds.
        let unready = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, unready);
        if endpoint.ends() {
            drop(ready);
            return RouterFuture::handler(endpoint.handle(frame), None);
        }
        let handled = endpoint.handle_ref(&mut frame);
        RouterFuture::handler(handled, Some((ready, frame)))
    }
}

impl<I: Clone> Clone for RouterService<I> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            live: Arc::clone(&self.live),
            table: Arc::clone(&self.table),
            generation: self.generation,
        }
    }
}

impl<I: fmt::Debug> fmt::Debug for RouterService<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouterService")
            .field("inner", &self.inner)
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

pin_project! {
    /// The response future of [`RouterService`]: runs the handler, then the inner service.
    pub struct RouterFuture<I>
    where
        I: Service<Frame>,
    {
        #[pin]
        state: State<I, I::Future>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<I, F> {
        Handler {
            handled: ObservedFuture,
            // The inner service and the frame to call it with, unless the frame ends at the
            // handler.
            rest: Option<(I, Frame)>,
        },
        Inner {
            #[pin]
            future: F,
            // The handler's reply, which takes precedence.
            reply: Reply,
        },
    }
}

impl<I: Service<Frame>> RouterFuture<I> {
    fn inner(future: I::Future) -> Self {
        let reply = Reply::None;
        Self {
            state: State::Inner { future, reply },
        }
    }

    fn handler(handled: ObservedFuture, rest: Option<(I, Frame)>) -> Self {
        Self {
            state: State::Handler { handled, rest },
        }
    }
}

impl<I> Future for RouterFuture<I>
where
    I: Service<Frame, Response = Reply, Error: Into<BoxError>>,
{
    type Output = Result<Reply, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProj::Handler { handled, rest } => {
                    let reply = match ready!(Pin::new(&mut *handled).poll(cx)) {
                        Ok(reply) => reply,
                        Err(error) => {
                            // Release the permit now, not when the caller has handled the error.
                            *rest = None;
                            return Poll::Ready(Err(error));
                        }
                    };
                    let Some((mut inner, frame)) = rest.take() else {
                        return Poll::Ready(Ok(reply));
                    };
                    let future = inner.call(frame);
                    state.set(State::Inner { future, reply });
                }
                StateProj::Inner { future, reply } => {
                    let inner = ready!(future.poll(cx)).map_err(Into::into)?;
                    let reply = if reply.is_none() {
                        inner
                    } else {
                        std::mem::take(reply)
                    };
                    return Poll::Ready(Ok(reply));
                }
            }
        }
    }
}

impl<I: Service<Frame>> fmt::Debug for RouterFuture<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouterFuture").finish_non_exhaustive()
    }
}
