//! A layer that can be broken in many ways.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tower_layer::{Layer, layer_fn};
use tower_service::Service;

use crate::error::BoxError;
use crate::frame::Frame;
use crate::stack::reply::Reply;
use crate::wire::Kind;

/// The way in which a layer is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Not,
    AlwaysReady,
    ReadyOnce,
    NeverReady,
    HidesReadyError,
    LosesReadyWaker,
    LosesCallWaker,
    CallsAClone,
    LeavesReadyBehind,
    KeepsThePermit,
    NeverCalls,
    CallsTwice,
    HidesErrors,
    HidesReplies,
    Spawns,
    Detaches,
    ReadyClones,
}

pub(super) struct Broken<S> {
    inner: S,
    how: How,
    was_ready: bool,
}

impl<S: Clone> Clone for Broken<S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            how: self.how,
            was_ready: self.was_ready,
        }
    }
}

pub(super) fn broken<S>(how: How) -> impl Layer<S, Service = Broken<S>> {
    layer_fn(move |inner| Broken {
        inner,
        how,
        was_ready: false,
    })
}

type BrokenFuture = Pin<Box<dyn Future<Output = Result<Reply, BoxError>> + Send>>;

impl<S> Service<Frame> for Broken<S>
where
    S: Service<Frame, Response = Reply, Error: Into<BoxError> + Send, Future: Send + 'static>
        + Clone
        + Send
        + 'static,
{
    type Response = Reply;
    type Error = BoxError;
    type Future = BrokenFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self.how {
            How::AlwaysReady => return Poll::Ready(Ok(())),
            How::ReadyOnce | How::ReadyClones if self.was_ready => return Poll::Ready(Ok(())),
            How::NeverReady => return Poll::Pending,
            How::LosesReadyWaker => {
                let mut cx = Context::from_waker(Waker::noop());
                return self.inner.poll_ready(&mut cx).map_err(Into::into);
            }
            How::HidesReadyError => return self.inner.poll_ready(cx).map(|_| Ok(())),
            _ => {}
        }
        let ready = self.inner.poll_ready(cx).map_err(Into::into);
        self.was_ready = matches!(ready, Poll::Ready(Ok(())));
        ready
    }

    fn call(&mut self, frame: Frame) -> BrokenFuture {
        if self.how == How::ReadyClones {
            self.was_ready = false;
        }
        if frame.kind() == Kind::Data {
            if self.how != How::KeepsThePermit {
                let unready = self.inner.clone();
                self.inner = unready;
            }
            return Box::pin(async { Ok(Reply::None) });
        }
        match self.how {
            How::CallsAClone => {
                let mut clone = self.inner.clone();
                Box::pin(async move { clone.call(frame).await.map_err(Into::into) })
            }
            How::LeavesReadyBehind => {
                let mut clone = self.inner.clone();
                Box::pin(async move {
                    std::future::poll_fn(|cx| clone.poll_ready(cx))
                        .await
                        .map_err(Into::into)?;
                    clone.call(frame).await.map_err(Into::into)
                })
            }
            How::NeverCalls => Box::pin(async { Ok(Reply::None) }),
            How::CallsTwice => {
                let first = self.inner.call(frame.clone());
                let second = self.inner.call(frame);
                Box::pin(async move {
                    let _ = first.await;
                    second.await.map_err(Into::into)
                })
            }
            How::HidesErrors => {
                let call = self.inner.call(frame);
                Box::pin(async move { Ok(call.await.unwrap_or_default()) })
            }
            How::HidesReplies => {
                let call = self.inner.call(frame);
                Box::pin(async move { call.await.map(|_| Reply::None).map_err(Into::into) })
            }
            How::Spawns => {
                let call = tokio::spawn(self.inner.call(frame));
                Box::pin(async move { call.await?.map_err(Into::into) })
            }
            How::Detaches => {
                tokio::spawn(self.inner.call(frame));
                Box::pin(async { Ok(Reply::Payload("the probe's answer".into())) })
            }
            How::LosesCallWaker => {
                let mut call = Box::pin(self.inner.call(frame));
                Box::pin(std::future::poll_fn(move |_| {
                    let mut cx = Context::from_waker(Waker::noop());
                    call.as_mut().poll(&mut cx).map_err(Into::into)
                }))
            }
            _ => {
                let call = self.inner.call(frame);
                Box::pin(async move { call.await.map_err(Into::into) })
            }
        }
    }
}
