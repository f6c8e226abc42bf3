//! The functions that a middleware is made of, whatever their arguments are.
//!
//! One trait over all numbers of arguments, so that [`FromFn`](super::FromFn) has a single
//! implementation of `Service<Frame>`: the compiler names what is wrong with the function, and the
//! page of [`Frame`] does not list one implementation for each number.

use std::future::Future;

use coalescent_core::Frame;

use super::Next;
use crate::extract::private::ViaFrame;
use crate::handler::HandlerFuture;
use crate::handler::arguments::Arguments;
use crate::into_reply::IntoReply;
use crate::macros::all_the_tuples;

/// A function whose arguments are those of the tuple `A`, then [`Next`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no middleware function",
    label = "not a function of extractors, a `Frame` and `Next`",
    note = "its arguments are up to 15 extractors, then the `Frame`, then `Next`"
)]
pub trait AroundNext<A> {
    type Output;

    fn call(self, arguments: A, next: Next) -> Self::Output;
}

macro_rules! impl_around_next {
    ([$($ty:ident),*], $last:ident) => {
        #[diagnostic::do_not_recommend]
        #[allow(non_snake_case)]
        impl<F, R, $($ty,)* $last> AroundNext<($($ty,)* $last,)> for F
        where
            F: FnOnce($($ty,)* $last, Next) -> R,
        {
            type Output = R;

            #[inline]
            fn call(self, ($($ty,)* $last,): ($($ty,)* $last,), next: Next) -> R {
                self($($ty,)* $last, next)
            }
        }
    };
}

all_the_tuples!(impl_around_next);

/// An async function that is a middleware with a state of type `S`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no middleware function",
    label = "not a function of extractors, a `Frame` and `Next`"
)]
pub trait MiddlewareFn<A, S>: Clone + Send + 'static {
    /// Handles one frame with the inner services that stand behind `next`.
    fn run(self, frame: Frame, state: S, next: Next) -> HandlerFuture;
}

impl<F, A, S, Fut, Res> MiddlewareFn<A, S> for F
where
    F: AroundNext<A, Output = Fut> + Clone + Send + 'static,
    A: Arguments<S, ViaFrame> + Send,
    Fut: Future<Output = Res> + Send,
    Res: IntoReply,
    S: Send + Sync + 'static,
{
    fn run(self, frame: Frame, state: S, next: Next) -> HandlerFuture {
        Box::pin(async move {
            let arguments = A::extract(frame, &state).await?;
            self.call(arguments, next).await.into_reply()
        })
    }
}
