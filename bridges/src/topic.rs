//! A topic of an overlay, as the side of the mesh.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use coalescent_core::{BoxError, Error, Mesh};
use coalescent_layers::OverlayExt;
use coalescent_layers::overlay::topic::{Topic, TopicNonce};
use futures_util::StreamExt;

use crate::engine::Carried;

/// A topic that is published to and read. What this node itself publishes in it is not heard.
pub(crate) struct OfTopic {
    heard: Topic,
    topic: Arc<Topic>,
    /// The message that is being published.
    saying: Option<Publishing>,
}

type Publishing = Pin<Box<dyn Future<Output = Result<usize, Error>> + Send>>;

impl OfTopic {
    pub(crate) fn open(mesh: &Mesh, name: &str) -> Result<Self, Error> {
        let heard = mesh.topic(name)?;
        Ok(Self {
            topic: Arc::new(heard.clone()),
            heard,
            saying: None,
        })
    }

    pub(crate) fn poll_hear(&mut self, cx: &mut Context<'_>) -> Poll<Option<Carried>> {
        loop {
            let frame = match ready!(self.heard.reader().poll_next_unpin(cx)) {
                Some(frame) => frame,
                None => return Poll::Ready(None),
            };
            // Every frame of a topic has one.
            if let Some(&TopicNonce(nonce)) = frame.extensions().get() {
                let payload = frame.into_payload();
                return Poll::Ready(Some(Carried { nonce, payload }));
            }
        }
    }

    /// Waits until the last message was published: as long as there is no neighbour, and until
    /// neighbours have room.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(saying) = &mut self.saying {
            if let Err(error) = ready!(saying.as_mut().poll(cx)) {
                tracing::warn!(%error, "a message cannot be carried into the topic");
            }
            self.saying = None;
        }
        Poll::Ready(())
    }

    pub(crate) fn say(&mut self, message: Carried) -> Result<(), BoxError> {
        let largest = self.topic.largest();
        if message.payload.len() > largest {
            return Err(format!("it is longer than {largest} bytes").into());
        }
        let topic = Arc::clone(&self.topic);
        let Carried { nonce, payload } = message;
        self.saying = Some(Box::pin(
            async move { topic.publish_as(nonce, payload).await },
        ));
        Ok(())
    }
}
