//! The future of a start.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::error::Error;
use crate::mesh::Mesh;

/// The future of [`App::listen`](crate::App::listen), [`App::listen_on`](crate::App::listen_on) and
/// [`App::start`](crate::App::start).
///
/// It has a type of its own, rather than that of an `async fn`, since the compiler would report an
/// error in a stack of layers three times for the latter.
#[must_use = "the app does not start until this is awaited"]
pub struct Starting(Pin<Box<dyn Future<Output = Result<Mesh, Error>> + Send>>);

impl Starting {
    pub(super) fn new(start: impl Future<Output = Result<Mesh, Error>> + Send + 'static) -> Self {
        Self(Box::pin(start))
    }
}

impl Future for Starting {
    type Output = Result<Mesh, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Starting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Starting").finish_non_exhaustive()
    }
}
