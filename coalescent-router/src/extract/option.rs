use std::convert::Infallible;
use std::future::Future;

use coalescent_core::{BoxError, Frame};

use super::{FromFrame, FromFrameParts};

/// An extractor that handlers can take as `Option<T>`.
///
/// ```
/// use std::convert::Infallible;
///
/// use coalescent::{Frame, IntoReply, Peer, Router, extract::OptionalFromFrameParts};
/// # use coalescent::{Message, Reply, test_util, wire::Kind};
/// # use tower::ServiceExt;
///
/// /// What a peer is called, if a hook has found out.
/// #[derive(Clone)]
/// struct Nick(String);
///
/// impl<S: Sync> OptionalFromFrameParts<S> for Nick {
///     type Rejection = Infallible;
///
///     async fn from_frame_parts(frame: &mut Frame, _: &S) -> Result<Option<Self>, Infallible> {
///         Ok(frame.peer().get())
///     }
/// }
///
/// async fn greet(nick: Option<Nick>) -> impl IntoReply {
///     let name = nick.map_or("stranger".to_owned(), |Nick(name)| name);
///     ("hello", name)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), coalescent::BoxError> {
/// let router: Router = Router::new().route("greet", greet);
/// # let mut frame = test_util::frame(Kind::Data, "");
/// # frame.set_message(Message::new("greet", &()));
/// # let peer: Peer = frame.peer().clone();
/// # for (nick, expected) in [(None, "stranger"), (Some(Nick("al".into())), "al")] {
/// #     nick.map(|nick| peer.set(nick));
/// #     let reply = router.clone().into_service().oneshot(frame.clone()).await?;
/// #     let Reply::Message(reply) = reply else { panic!() };
/// #     assert_eq!(reply.body::<String>()?, expected);
/// # }
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`Option<{Self}>` is no extractor",
    label = "cannot be optional",
    note = "ask for a `Result<{Self}, _>` to handle its rejection yourself"
)]
pub trait OptionalFromFrameParts<S>: Sized {
    /// The error if a value is present but invalid.
    type Rejection: Into<BoxError>;

    /// Like [`FromFrameParts::AT_ONCE`].
    #[doc(hidden)]
    const AT_ONCE: bool = false;

    /// Extracts the value, or returns `None` if it is absent.
    fn from_frame_parts(
        frame: &mut Frame,
        state: &S,
    ) -> impl Future<Output = Result<Option<Self>, Self::Rejection>> + Send;
}

impl<S, T> FromFrameParts<S> for Option<T>
where
    S: Send + Sync,
    T: OptionalFromFrameParts<S>,
{
    type Rejection = T::Rejection;

    const AT_ONCE: bool = T::AT_ONCE;

    async fn from_frame_parts(frame: &mut Frame, state: &S) -> Result<Self, T::Rejection> {
        T::from_frame_parts(frame, state).await
    }
}

impl<S, T> FromFrameParts<S> for Result<T, T::Rejection>
where
    S: Send + Sync,
    T: FromFrameParts<S>,
{
    type Rejection = Infallible;

    const AT_ONCE: bool = T::AT_ONCE;

    async fn from_frame_parts(frame: &mut Frame, state: &S) -> Result<Self, Infallible> {
        Ok(T::from_frame_parts(frame, state).await)
    }
}

impl<S, T> FromFrame<S> for Result<T, T::Rejection>
where
    S: Send + Sync,
    T: FromFrame<S>,
{
    type Rejection = Infallible;

    async fn from_frame(frame: Frame, state: &S) -> Result<Self, Infallible> {
        Ok(T::from_frame(frame, state).await)
    }
}
