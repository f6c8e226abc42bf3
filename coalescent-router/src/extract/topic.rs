use std::convert::Infallible;
use std::fmt;
use std::ops::Deref;

use coalescent_core::{Frame, TopicName};

use super::rejection::TopicRejection;
use super::{FromFrameParts, OptionalFromFrameParts};

/// An extractor of the name of the topic that the message belongs to.
///
/// ```
/// use coalescent::{Router, extract::Topic};
///
/// async fn chat(topic: Option<Topic>) {
///     match topic {
///         Some(Topic(name)) => println!("in {name}"),
///         None => println!("to all"),
///     }
/// }
///
/// let router: Router = Router::new()
///     .topic("rust", Router::new().route("chat", chat))
///     .topic("go", Router::new().route("chat", chat))
///     .route("chat", chat);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Topic(pub TopicName);

fn topic(frame: &Frame) -> Option<Topic> {
    frame.extensions().get().cloned().map(Topic)
}

impl<S: Sync> FromFrameParts<S> for Topic {
    type Rejection = TopicRejection;

    const AT_ONCE: bool = true;

    async fn from_frame_parts(frame: &mut Frame, _state: &S) -> Result<Self, TopicRejection> {
        topic(frame).ok_or_else(TopicRejection::new)
    }
}

impl<S: Sync> OptionalFromFrameParts<S> for Topic {
    type Rejection = Infallible;

    const AT_ONCE: bool = true;

    async fn from_frame_parts(frame: &mut Frame, _state: &S) -> Result<Option<Self>, Infallible> {
        Ok(topic(frame))
    }
}

impl Deref for Topic {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
