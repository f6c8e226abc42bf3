//! Handlers: async functions of extractors, called by routes.

pub(crate) mod arguments;
pub(crate) mod call;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use coalescent_core::{BoxError, Frame, Reply};

use self::call::{CallWith, Callable};

/// The future of a [`Handler`] call. Boxing it is the one allocation that a frame with a handler
/// costs.
pub type HandlerFuture = Pin<Box<dyn Future<Output = Result<Reply, BoxError>> + Send>>;

/// An async function that handles the frames of a route.
///
/// The trait is implemented for async functions and closures of up to 16
/// [extractors](crate::extract) whose return value is [`IntoReply`](crate::IntoReply), and for
/// values that are `IntoReply` themselves, as a fixed reply. It cannot be implemented for other
/// types.
///
/// ```
/// use coalescent::{IntoReply, Message, Peer, Router, extract::Body};
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
/// The compiler says what is wrong, most often in its first line:
///
/// - "`X` is no extractor": the argument of type `X`. Take one of the
///   [extractors](crate::extract) instead, such as a `Body<X>`.
/// - "`Frame` is no extractor, or one that must come last": make it the last argument.
/// - "`X` is no part of the state `S`": give the router that state, or implement
///   [`FromRef`](crate::extract::FromRef).
/// - "`X` is no reply": return what is [`IntoReply`](crate::IntoReply).
/// - "`X` is not a future": write `async fn`.
/// - "future cannot be sent between threads safely": let go of the value that it names, such as an
///   `Rc` or the guard of a `std` lock, before the `.await`.
/// - "`X` is no handler": it is neither a function nor a reply. Give the function's name, without
///   calling it.
///
/// # The type parameters
///
/// `S` is the state that the handler needs. `T` stands for its arguments, which lets functions with
/// different arguments implement the trait; it is always inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no handler",
    label = "neither an async function of extractors nor a reply",
    note = "a handler is an async function, a closure that returns a future, or a value that is \
            `IntoReply`; a function is given by its name, without calling it"
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
        S: Clone;
}

impl<H, T, S> Handler<T, S> for H
where
    // In this order: the first bound finds `T`.
    H: Callable<T>,
    H: CallWith<T, S>,
{
    const ENDS: bool = <H as CallWith<T, S>>::ENDS;

    fn call(self, frame: Frame, state: S) -> HandlerFuture {
        self.call_with(frame, state)
    }

    const AT_ONCE: bool = <H as CallWith<T, S>>::AT_ONCE;

    #[inline]
    fn call_ref(&self, frame: &mut Frame, state: &S) -> HandlerFuture
    where
        S: Clone,
    {
        self.call_ref_with(frame, state)
    }
}

/// Wraps a handler so that frames end at it: they do not go on to the inner services, nor to the
/// read side of the mesh.
///
/// Without this wrapper, a frame goes on when its handler has finished, so a handler can also just
/// observe it:
///
/// ```
/// use coalescent::{Router, ends};
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

impl<H> fmt::Debug for Ends<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ends")
            .field(&format_args!("{}", std::any::type_name::<H>()))
            .finish()
    }
}
