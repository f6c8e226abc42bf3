//! Handlers: async functions of extractors, called by routes.

use std::fmt;
use std::future::{Future, ready};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use coalescent_core::{BoxError, Frame, Reply};

use crate::extract::{FromFrame, FromFrameParts};
use crate::into_reply::IntoReply;
use crate::macros::all_the_tuples;

/// The future of a [`Handler`] call. Boxing it is the one allocation that a frame with a handler
/// costs.
pub type HandlerFuture = Pin<Box<dyn Future<Output = Result<Reply, BoxError>> + Send>>;

/// An async function that handles the frames of a route.
///
/// The trait is implemented for async functions and closures of up to 16
/// [extractors](crate::extract) whose return value is [`IntoReply`], and for values that are
/// [`IntoReply`] themselves, as a fixed reply. There is no need to implement it yourself.
///
/// ```
/// use coalescent_core::{Message, Peer};
/// use coalescent_router::{IntoReply, Router, extract::Body};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Deserialize)]
/// struct Ping {
///     time: u64,
/// }
///
/// #[derive(Serialize)]
/// struct Pong {
///     time: u64,
/// }
///
/// async fn ping(Body(ping): Body<Ping>) -> impl IntoReply {
///     Message::new("pong", &Pong { time: ping.time })
/// }
///
/// let router: Router = Router::new()
///     .route("ping", ping)
///     .route("hello", |peer: Peer| async move { println!("hello, {}", peer.id()) })
///     .route("version", ("version", env!("CARGO_PKG_VERSION")));
/// ```
///
/// # When a function is no handler
///
/// The compiler only reports that the trait is not implemented. Check that
///
/// - it is an `async fn`, or a closure that returns a future,
/// - each argument is an [extractor](crate::extract), and one that consumes the frame comes last,
/// - its return value is [`IntoReply`],
/// - its future is `Send`: no value that is not `Send`, such as an `Rc` or the guard of a `std`
///   lock, is held across an `.await`,
/// - a closure is `Clone + Send + Sync + 'static`,
/// - each [`State`](crate::extract::State) can be derived from the router's state.
///
/// # The type parameters
///
/// `S` is the state that the handler needs. `T` stands for its arguments, which lets functions with
/// different arguments implement the trait; it is always inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no handler",
    label = "not an async function of extractors that returns what is `IntoReply`",
    note = "each argument must implement `FromFrameParts<S>`, the last one that or `FromFrame<S>`; \
            the future must be `Send`, and a closure `Clone + Send + Sync + 'static`",
    note = "a handler that asks for `State<T>` needs a router whose state is `T`, or `T: FromRef<S>`"
)]
pub trait Handler<T, S>: Clone + Send + Sync + Sized + 'static {
    /// Whether frames end at this handler instead of going on to the inner services; see [`ends`].
    const ENDS: bool = false;

    /// Handles one frame.
    fn call(self, frame: Frame, state: S) -> HandlerFuture;

    /// Whether [`call_ref`](Handler::call_ref) works without cloning the frame.
    #[doc(hidden)]
    const AT_ONCE: bool = false;

    /// Handles one frame that goes on afterwards, and leaves it unchanged. The frame is cloned only
    /// if an extractor may change it, keep it or wait; otherwise the extractors run immediately.
    #[doc(hidden)]
    fn call_ref(&self, frame: &mut Frame, state: &S) -> HandlerFuture
    where
        S: Clone,
    {
        self.clone().call(frame.clone(), state.clone())
    }
}

#[diagnostic::do_not_recommend]
impl<F, Fut, Res, S> Handler<((),), S> for F
where
    F: FnOnce() -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Res> + Send,
    Res: IntoReply,
{
    fn call(self, _frame: Frame, _state: S) -> HandlerFuture {
        Box::pin(async move { self().await.into_reply() })
    }

    const AT_ONCE: bool = true;

    fn call_ref(&self, _frame: &mut Frame, _state: &S) -> HandlerFuture {
        let handler = self.clone();
        Box::pin(async move { handler().await.into_reply() })
    }
}

macro_rules! impl_handler {
    ([$($ty:ident),*], $last:ident) => {
        #[diagnostic::do_not_recommend]
        #[allow(non_snake_case, unused_mut)]
        impl<F, Fut, S, Res, M, $($ty,)* $last> Handler<(M, $($ty,)* $last,), S> for F
        where
            F: FnOnce($($ty,)* $last,) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output = Res> + Send,
            S: Send + Sync + 'static,
            Res: IntoReply,
            $($ty: FromFrameParts<S> + Send + 'static,)*
            $last: FromFrame<S, M> + Send + 'static,
        {
            fn call(self, mut frame: Frame, state: S) -> HandlerFuture {
                Box::pin(async move {
                    $(
                        let $ty = $ty::from_frame_parts(&mut frame, &state)
                            .await
                            .map_err(Into::into)?;
                    )*
                    let $last = $last::from_frame(frame, &state).await.map_err(Into::into)?;
                    self($($ty,)* $last,).await.into_reply()
                })
            }

            const AT_ONCE: bool = $last::AT_ONCE $(&& $ty::AT_ONCE)*;

            fn call_ref(&self, frame: &mut Frame, state: &S) -> HandlerFuture
            where
                S: Clone,
            {
                let handler = self.clone();
                if !Self::AT_ONCE {
                    return handler.call(frame.clone(), state.clone());
                }
                $(
                    let $ty = match at_once($ty::from_frame_parts(frame, state)) {
                        Some(Ok(extracted)) => extracted,
                        Some(Err(rejection)) => return reject(rejection),
                        None => return handler.call(frame.clone(), state.clone()),
                    };
                )*
                let $last = match at_once($last::from_frame_mut(frame, state)) {
                    Some(Ok(extracted)) => extracted,
                    Some(Err(rejection)) => return reject(rejection),
                    None => return handler.call(frame.clone(), state.clone()),
                };
                Box::pin(async move { handler($($ty,)* $last,).await.into_reply() })
            }
        }
    };
}

all_the_tuples!(impl_handler);

/// Polls a future once; returns its output if it is ready.
fn at_once<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

#[cold]
fn reject(rejection: impl Into<BoxError>) -> HandlerFuture {
    Box::pin(ready(Err(rejection.into())))
}

mod private {
    /// The marker that distinguishes a fixed reply from a function.
    #[derive(Debug)]
    pub enum Fixed {}
}

#[diagnostic::do_not_recommend]
impl<R, S> Handler<private::Fixed, S> for R
where
    R: IntoReply + Clone + Send + Sync + 'static,
{
    fn call(self, _frame: Frame, _state: S) -> HandlerFuture {
        Box::pin(ready(self.into_reply()))
    }

    const AT_ONCE: bool = true;

    fn call_ref(&self, _frame: &mut Frame, _state: &S) -> HandlerFuture {
        Box::pin(ready(self.clone().into_reply()))
    }
}

/// Wraps a handler so that frames end at it: they do not go on to the inner services, nor to the
/// read side of the mesh.
///
/// Without this wrapper, a frame goes on when its handler has finished, so a handler can also just
/// observe it:
///
/// ```
/// use coalescent_router::{Router, ends};
/// # async fn join() {}
/// # async fn chat() {}
///
/// let router: Router = Router::new()
///     .route("join", ends(join))   // handled here, and nowhere else
///     .route("chat", chat);        // handled here, then read from the mesh too
/// ```
pub fn ends<H>(handler: H) -> Ends<H> {
    Ends(handler)
}

/// A handler at which frames end; created by [`ends`].
#[derive(Clone, Copy)]
pub struct Ends<H>(H);

#[diagnostic::do_not_recommend]
impl<H, T, S> Handler<(Ends<()>, T), S> for Ends<H>
where
    H: Handler<T, S>,
{
    const ENDS: bool = true;

    fn call(self, frame: Frame, state: S) -> HandlerFuture {
        self.0.call(frame, state)
    }

    const AT_ONCE: bool = H::AT_ONCE;

    fn call_ref(&self, frame: &mut Frame, state: &S) -> HandlerFuture
    where
        S: Clone,
    {
        self.0.call_ref(frame, state)
    }
}

impl<H> fmt::Debug for Ends<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ends")
            .field(&format_args!("{}", std::any::type_name::<H>()))
            .finish()
    }
}
