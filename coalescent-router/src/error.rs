//! The error of adding routes.

use std::fmt;

use coalescent_core::TopicName;

/// The error returned if a route could not be added.
///
/// It is opaque; use its predicates to find the cause.
#[derive(Clone, Debug)]
pub struct RouteError(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Route(Box<str>),
    Fallback(Box<str>),
    Topic(TopicName),
    NestedTopic(TopicName, TopicName),
    NoRouter,
    Unregistered,
}

impl RouteError {
    pub(crate) fn route(kind: &str) -> Self {
        Self(Kind::Route(kind.into()))
    }

    pub(crate) fn fallback(prefix: &str) -> Self {
        Self(Kind::Fallback(prefix.into()))
    }

    pub(crate) fn topic(topic: &TopicName) -> Self {
        Self(Kind::Topic(topic.clone()))
    }

    pub(crate) fn nested_topic(outer: &TopicName, inner: &TopicName) -> Self {
        Self(Kind::NestedTopic(outer.clone(), inner.clone()))
    }

    pub(crate) fn no_router() -> Self {
        Self(Kind::NoRouter)
    }

    pub(crate) fn unregistered() -> Self {
        Self(Kind::Unregistered)
    }

    /// Returns whether the message type already has a handler, the router already has a fallback,
    /// or the topic already has routes.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        !matches!(
            self.0,
            Kind::NoRouter | Kind::Unregistered | Kind::NestedTopic(..)
        )
    }

    /// Returns whether the app has no router, or one that was not registered.
    #[must_use]
    pub fn is_no_router(&self) -> bool {
        matches!(self.0, Kind::NoRouter | Kind::Unregistered)
    }
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Route(kind) => write!(
                f,
                "there is a handler for {kind:?} already: a message type has one, so remove one of \
                 the two, or call both from a third"
            ),
            Kind::Fallback(prefix) if prefix.is_empty() => f.write_str(
                "there is a fallback already: a router has one, and a route \"*\" is one too, so \
                 remove one of the two",
            ),
            Kind::Fallback(prefix) => write!(
                f,
                "there is a fallback for types that begin with {prefix:?} already: remove one of \
                 the two"
            ),
            Kind::Topic(topic) => write!(
                f,
                "there are routes for the topic {topic:?} already: merge the two routers first"
            ),
            Kind::NestedTopic(outer, inner) => write!(
                f,
                "the router for the topic {outer:?} has routes for the topic {inner:?}: a topic has no \
                 topics of its own, so add both to one router"
            ),
            Kind::NoRouter => f.write_str(
                "no router is registered: add `.with(Router::new())` to the app before adding \
                 routes to its mesh",
            ),
            Kind::Unregistered => f.write_str(
                "the router is in the stack, but was added with `.layer`, which does not register \
                 it: use `.with(router)`",
            ),
        }
    }
}

impl std::error::Error for RouteError {}
