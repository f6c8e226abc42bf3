//! A layer that replies to messages of one type with messages of another (`--reply`).

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use coalescent::{Frame, Message, Reply};
use tower::{Layer, Service};

/// Maps the type of a message to the type of its reply.
#[derive(Clone)]
pub(crate) struct Replies(Arc<HashMap<String, String>>);

impl Replies {
    pub(crate) fn new(types: HashMap<String, String>) -> Self {
        Self(Arc::new(types))
    }

    /// Returns the reply to a frame: the same body with another type.
    fn answer(&self, frame: &Frame) -> Option<Message> {
        let message = frame.message()?;
        let kind = self.0.get(message.kind())?;
        let body = message.body_to_bytes();
        Some(Message::encoded(kind, message.format(), body))
    }
}

impl<S> Layer<S> for Replies {
    type Service = Answer<S>;

    fn layer(&self, inner: S) -> Answer<S> {
        Answer {
            inner,
            replies: self.clone(),
        }
    }
}

#[derive(Clone)]
pub(crate) struct Answer<S> {
    inner: S,
    replies: Replies,
}

impl<S> Service<Frame> for Answer<S>
where
    S: Service<Frame, Response = Reply, Future: Send + 'static>,
{
    type Response = Reply;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Reply, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, frame: Frame) -> Self::Future {
        let answer = self.replies.answer(&frame);
        // The message still goes to stdout.
        let shown = self.inner.call(frame);
        Box::pin(async move { Ok(shown.await?.or(answer.into())) })
    }
}
