//! Functions of extractors, and their arguments.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use coalescent_core::{BoxError, Frame};

use crate::extract::{FromFrame, FromFrameParts};
use crate::macros::all_the_tuples;

/// A function whose arguments are `A`, a tuple, whatever their types are.
pub trait Function<A> {
    type Output;

    fn call(self, arguments: A) -> Self::Output;
}

/// The arguments of a handler, a tuple of extractors of which the last may consume the frame. `M`
/// says whether it does.
#[diagnostic::on_unimplemented(
    message = "`{Self}` are no arguments of a handler",
    label = "not all of the arguments are extractors"
)]
pub trait Arguments<S, M>: Sized {
    /// Whether [`extract_at_once`](Arguments::extract_at_once) can be tried.
    const AT_ONCE: bool;

    /// Extracts the arguments one after another.
    fn extract(frame: Frame, state: &S) -> impl Future<Output = Result<Self, BoxError>> + Send;

    /// Extracts the arguments from a frame that is left unchanged; returns `None` if one of them
    /// would have to wait.
    fn extract_at_once(frame: &mut Frame, state: &S) -> Option<Result<Self, BoxError>>;
}

/// A function of more arguments than handlers may have.
#[derive(Debug)]
pub struct TooMany<A>(std::marker::PhantomData<A>);

/// Tuples of so many types that a function with these arguments may be a handler. It is implemented
/// for none of those that it is asked of, and exists for its message.
#[diagnostic::on_unimplemented(
    message = "a handler has at most 16 arguments",
    label = "has more than 16 arguments",
    note = "take several values from one extractor, such as a `State` or an extractor of your own"
)]
pub trait FewEnough {
    fn call() -> crate::handler::HandlerFuture;
}

impl<F, R> Function<()> for F
where
    F: FnOnce() -> R,
{
    type Output = R;

    #[inline]
    fn call(self, (): ()) -> R {
        self()
    }
}

impl<S: Sync> Arguments<S, ()> for () {
    const AT_ONCE: bool = true;

    async fn extract(_frame: Frame, _state: &S) -> Result<Self, BoxError> {
        Ok(())
    }

    #[inline]
    fn extract_at_once(_frame: &mut Frame, _state: &S) -> Option<Result<Self, BoxError>> {
        Some(Ok(()))
    }
}

macro_rules! impl_arguments {
    ([$($ty:ident),*], $last:ident) => {
        #[allow(non_snake_case)]
        impl<F, R, $($ty,)* $last> Function<($($ty,)* $last,)> for F
        where
            F: FnOnce($($ty,)* $last,) -> R,
        {
            type Output = R;

            #[inline]
            fn call(self, ($($ty,)* $last,): ($($ty,)* $last,)) -> R {
                self($($ty,)* $last,)
            }
        }

        #[allow(non_snake_case, unused_mut)]
        impl<S, M, $($ty,)* $last> Arguments<S, M> for ($($ty,)* $last,)
        where
            S: Sync,
            $($ty: FromFrameParts<S> + Send,)*
            $last: FromFrame<S, M> + Send,
        {
            const AT_ONCE: bool = $last::AT_ONCE $(&& $ty::AT_ONCE)*;

            async fn extract(mut frame: Frame, state: &S) -> Result<Self, BoxError> {
                $(
                    let $ty = $ty::from_frame_parts(&mut frame, state)
                        .await
                        .map_err(Into::into)?;
                )*
                let $last = $last::from_frame(frame, state).await.map_err(Into::into)?;
                Ok(($($ty,)* $last,))
            }

            #[inline]
            fn extract_at_once(frame: &mut Frame, state: &S) -> Option<Result<Self, BoxError>> {
                $(
                    let $ty = match at_once($ty::from_frame_parts(frame, state))? {
                        Ok(extracted) => extracted,
                        Err(rejection) => return reject(rejection),
                    };
                )*
                let $last = match at_once($last::from_frame_mut(frame, state))? {
                    Ok(extracted) => extracted,
                    Err(rejection) => return reject(rejection),
                };
                Some(Ok(($($ty,)* $last,)))
            }
        }
    };
}

all_the_tuples!(impl_arguments);

/// Polls a future once; returns its output if it is ready.
#[inline]
fn at_once<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

#[cold]
fn reject<A>(rejection: impl Into<BoxError>) -> Option<Result<A, BoxError>> {
    Some(Err(rejection.into()))
}
