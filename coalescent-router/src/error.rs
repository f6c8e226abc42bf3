//! The error of adding routes.

use std::fmt;

/// The error returned if a route could not be added.
///
/// It is opaque; use its predicates to find the cause.
#[derive(Clone, Debug)]
pub struct RouteError(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Route(Box<str>),
    Fallback(Box<str>),
    NoRouter,
}

impl RouteError {
    pub(crate) fn route(kind: &str) -> Self {
        Self(Kind::Route(kind.into()))
    }

    pub(crate) fn fallback(prefix: &str) -> Self {
        Self(Kind::Fallback(prefix.into()))
    }

    pub(crate) fn no_router() -> Self {
        Self(Kind::NoRouter)
    }

    /// Returns whether the message type already has a handler, or the router already has a
    /// fallback.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.0 != Kind::NoRouter
    }

    /// Returns whether the app has no router.
    #[must_use]
    pub fn is_no_router(&self) -> bool {
        self.0 == Kind::NoRouter
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
            Kind::NoRouter => f.write_str(
                "no router is registered: add `.with(Router::new())` to the app before adding \
                 routes to its mesh",
            ),
        }
    }
}

impl std::error::Error for RouteError {}
