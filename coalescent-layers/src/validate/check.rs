//! What is asked for a verdict.

use std::future::Pending;

use coalescent_core::{Frame, Verdict};

/// A check of a [`Validate`](super::Validate): a function that is async, or one that is not.
///
/// It is sealed: [`Validate::new`](super::Validate::new) and
/// [`Validate::sync`](super::Validate::sync) make one out of a function.
pub trait Check: sealed::Sealed {
    /// The future of the verdict.
    type Future: Future<Output = Verdict>;

    /// Asks for a verdict.
    #[doc(hidden)]
    fn check(&self, frame: &Frame) -> Answer<Self::Future>;
}

/// A verdict that is there, or is waited for.
#[doc(hidden)]
#[derive(Debug)]
pub enum Answer<F> {
    Now(Verdict),
    Later(F),
}

/// A check that may wait; see [`Validate::new`](super::Validate::new).
#[derive(Clone, Copy, Debug)]
pub struct AsyncCheck<F>(pub(super) F);

/// A check that does not wait; see [`Validate::sync`](super::Validate::sync).
#[derive(Clone, Copy, Debug)]
pub struct SyncCheck<F>(pub(super) F);

impl<F, Fut> Check for AsyncCheck<F>
where
    F: Fn(Frame) -> Fut,
    Fut: Future<Output = Verdict>,
{
    type Future = Fut;

    #[inline]
    fn check(&self, frame: &Frame) -> Answer<Fut> {
        Answer::Later((self.0)(frame.clone()))
    }
}

impl<F> Check for SyncCheck<F>
where
    F: Fn(&Frame) -> Verdict,
{
    type Future = Pending<Verdict>;

    #[inline]
    fn check(&self, frame: &Frame) -> Answer<Self::Future> {
        Answer::Now((self.0)(frame))
    }
}

mod sealed {
    pub trait Sealed {}

    impl<F> Sealed for super::AsyncCheck<F> {}
    impl<F> Sealed for super::SyncCheck<F> {}
}
