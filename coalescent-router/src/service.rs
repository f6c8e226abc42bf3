//! Routing the frames of one peer.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use coalescent_core::{BoxError, Frame, Reply};
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::route::Watched;
use crate::table::{Live, Table};

/// Hands frames to the handlers of a [`Router`](crate::Router), then to the service further in.
///
/// Per peer is only its copy of the table; the handlers and their layers are shared. It is ready
/// when the inner service is. A frame without a handler costs no allocation, one with a handler
/// one.
pub struct RouterService<I> {
    inner: I,
    live: Arc<Live<()>>,
    table: Arc<Table<()>>,
    generation: u64,
}

impl<I> RouterService<I> {
    pub(crate) fn new(live: Arc<Live<()>>, inner: I) -> Self {
        // In this order: a change in between is seen again, and not missed.
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
    I: Service<Frame, Response = Reply, Error: Into<BoxError>> + Clone,
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
            Some(message) => self.table.find(message.kind_bytes()),
            None => {
                self.live.warn_no_message();
                None
            }
        };
        let Some(endpoint) = endpoint else {
            return RouterFuture::inner(self.inner.call(frame));
        };
        // The inner service that is ready goes along with its frame, and its permit with it.
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
    /// The future of a [`RouterService`]: the handler's, then that of the service further in.
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
            handled: Watched,
            // Where the frame goes on to, with the frame.
            rest: Option<(I, Frame)>,
        },
        Inner {
            #[pin]
            future: F,
            // What the handler answered.
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

    fn handler(handled: Watched, rest: Option<(I, Frame)>) -> Self {
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
                            // Not held until the error has been looked at.
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
