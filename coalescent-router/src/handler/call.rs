//! What is behind [`Handler`](super::Handler), in two steps, for the sake of the compiler's words.
//!
//! [`Callable`] says what a handler's arguments are, and asks nothing of them. [`CallWith`] asks
//! the rest. Since the first step has found the arguments, the compiler finds a single
//! implementation for the second, and names the bound of it that does not hold: an argument that is
//! no extractor, a return value that is no reply. With several implementations to choose from, it
//! would only say that none fits.

use std::future::{Future, ready};
use std::marker::PhantomData;

use coalescent_core::{BoxError, Frame};

use super::arguments::{Arguments, FewEnough, Function, TooMany};
use super::{Ends, HandlerFuture};
use crate::into_reply::IntoReply;

/// The marker of a function of the arguments `A`, a tuple. `M` says whether the last one consumes
/// the frame.
#[derive(Debug)]
pub struct Takes<M, A>(PhantomData<(M, A)>);

/// The marker of a fixed reply.
#[derive(Debug)]
pub enum Fixed {}

/// What may be a handler with arguments `T`, whether or not these are extractors.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no handler",
    label = "neither an async function of extractors nor a reply"
)]
pub trait Callable<T> {}

impl<F, M, A> Callable<Takes<M, A>> for F where F: Function<A> {}

impl<R> Callable<Fixed> for R where R: IntoReply {}

impl<H, T> Callable<(Ends<()>, T)> for Ends<H> where H: Callable<T> {}

/// Implements [`Callable`] for functions of more arguments than handlers may have, which have their
/// own words.
macro_rules! impl_too_many {
    ($($ty:ident)*) => {
        impl<F, R, $($ty,)*> Callable<TooMany<($($ty,)*)>> for F where F: FnOnce($($ty,)*) -> R {}
    };
}

impl_too_many!(A B C D E G H I J K L M N O P Q T);
impl_too_many!(A B C D E G H I J K L M N O P Q T U);
impl_too_many!(A B C D E G H I J K L M N O P Q T U V);
impl_too_many!(A B C D E G H I J K L M N O P Q T U V W);

/// A handler with arguments `T` that can be called with a state of type `S`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no handler",
    label = "neither an async function of extractors nor a reply"
)]
pub trait CallWith<T, S>: Callable<T> + Clone + Send + Sync + Sized + 'static {
    /// As [`Handler::ENDS`](super::Handler::ENDS).
    const ENDS: bool = false;

    /// As [`Handler::AT_ONCE`](super::Handler::AT_ONCE).
    const AT_ONCE: bool;

    /// As [`Handler::call`](super::Handler::call).
    fn call_with(self, frame: Frame, state: S) -> HandlerFuture;

    /// As [`Handler::call_ref`](super::Handler::call_ref).
    fn call_ref_with(&self, frame: &mut Frame, state: &S) -> HandlerFuture
    where
        S: Clone;
}

impl<F, M, A, Fut, Res, S> CallWith<Takes<M, A>, S> for F
where
    F: Function<A, Output = Fut> + Clone + Send + Sync + 'static,
    A: Arguments<S, M> + Send + 'static,
    Fut: Future<Output = Res> + Send,
    Res: IntoReply,
    S: Send + Sync + 'static,
{
    const AT_ONCE: bool = A::AT_ONCE;

    fn call_with(self, frame: Frame, state: S) -> HandlerFuture {
        Box::pin(async move {
            let arguments = A::extract(frame, &state).await?;
            self.call(arguments).await.into_reply()
        })
    }

    #[inline]
    fn call_ref_with(&self, frame: &mut Frame, state: &S) -> HandlerFuture
    where
        S: Clone,
    {
        let handler = self.clone();
        if !A::AT_ONCE {
            return handler.call_with(frame.clone(), state.clone());
        }
        match A::extract_at_once(frame, state) {
            Some(Ok(arguments)) => {
                Box::pin(async move { handler.call(arguments).await.into_reply() })
            }
            Some(Err(rejection)) => reject(rejection),
            None => handler.call_with(frame.clone(), state.clone()),
        }
    }
}

impl<R, S> CallWith<Fixed, S> for R
where
    R: IntoReply + Clone + Send + Sync + 'static,
{
    const AT_ONCE: bool = true;

    fn call_with(self, _frame: Frame, _state: S) -> HandlerFuture {
        Box::pin(ready(self.into_reply()))
    }

    fn call_ref_with(&self, _frame: &mut Frame, _state: &S) -> HandlerFuture {
        Box::pin(ready(self.clone().into_reply()))
    }
}

impl<H, T, S> CallWith<(Ends<()>, T), S> for Ends<H>
where
    H: CallWith<T, S>,
{
    const ENDS: bool = true;

    const AT_ONCE: bool = H::AT_ONCE;

    fn call_with(self, frame: Frame, state: S) -> HandlerFuture {
        self.0.call_with(frame, state)
    }

    fn call_ref_with(&self, frame: &mut Frame, state: &S) -> HandlerFuture
    where
        S: Clone,
    {
        self.0.call_ref_with(frame, state)
    }
}

impl<F, A, S> CallWith<TooMany<A>, S> for F
where
    F: Callable<TooMany<A>> + Clone + Send + Sync + 'static,
    A: FewEnough,
{
    const AT_ONCE: bool = false;

    fn call_with(self, _frame: Frame, _state: S) -> HandlerFuture {
        A::call()
    }

    fn call_ref_with(&self, _frame: &mut Frame, _state: &S) -> HandlerFuture {
        A::call()
    }
}

#[cold]
fn reject(rejection: BoxError) -> HandlerFuture {
    Box::pin(ready(Err(rejection)))
}
