//! Routes whose message type is derived from the body that their handler takes.

use coalescent_core::{BoxError, Frame, Message, MessageType, Reply};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::extract::{Body, BodyRejection, FromFrameParts};
use crate::handler::Ends;
use crate::handler::call::Takes;
use crate::into_reply::IntoReply;
use crate::macros::all_the_tuples;

/// An extractor of the message's body as a `T` that names its message type. As a reply, it becomes
/// a message of that type.
///
/// [`Router::typed`](crate::Router::typed) routes a handler with this argument by the type that `T`
/// names. The extractor itself does not check the type: behind a nested prefix, or in a fallback,
/// the message may have another one.
///
/// ```
/// use coalescent::{MessageType, Router, Typed};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Deserialize)]
/// struct Ping {
///     time: u64,
/// }
///
/// impl MessageType for Ping {
///     const TYPE: &'static str = "ping";
/// }
///
/// #[derive(Serialize)]
/// struct Pong {
///     time: u64,
/// }
///
/// impl MessageType for Pong {
///     const TYPE: &'static str = "pong";
/// }
///
/// async fn ping(Typed(ping): Typed<Ping>) -> Typed<Pong> {
///     Typed(Pong { time: ping.time })
/// }
///
/// let router: Router = Router::new().typed(ping);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Typed<T>(pub T);

impl<S, T> FromFrameParts<S> for Typed<T>
where
    S: Sync,
    T: DeserializeOwned + MessageType,
{
    type Rejection = BodyRejection;

    const AT_ONCE: bool = true;

    async fn from_frame_parts(frame: &mut Frame, state: &S) -> Result<Self, BodyRejection> {
        let Body(body) = Body::from_frame_parts(frame, state).await?;
        Ok(Self(body))
    }
}

impl<T: Serialize + MessageType> IntoReply for Typed<T> {
    fn into_reply(self) -> Result<Reply, BoxError> {
        Ok(Reply::Message(Message::typed(&self.0)))
    }
}

/// The arguments of a handler whose last one is a [`Body`] or [`Typed`] body, which is how
/// [`Router::typed`](crate::Router::typed) finds the message type. It is implemented for all such
/// arguments and appears only in bounds.
#[diagnostic::on_unimplemented(
    message = "the handler does not say which type of message it is for",
    label = "its last argument is neither `Body<..>` nor `Typed<..>` of a `MessageType`",
    note = "let it end in `Body(end): Body<End>`, where `End: MessageType`, or name the type with \
            `route`"
)]
pub trait TypedArguments {
    /// The message type to route.
    const TYPE: &'static str;
}

macro_rules! impl_typed_arguments {
    ([$($ty:ident),*], $last:ident) => {
        #[diagnostic::do_not_recommend]
        impl<M, $($ty,)* $last: MessageType> TypedArguments for Takes<M, ($($ty,)* Typed<$last>,)> {
            const TYPE: &'static str = $last::TYPE;
        }

        #[diagnostic::do_not_recommend]
        impl<M, $($ty,)* $last: MessageType> TypedArguments for Takes<M, ($($ty,)* Body<$last>,)> {
            const TYPE: &'static str = $last::TYPE;
        }
    };
}

all_the_tuples!(impl_typed_arguments);

#[diagnostic::do_not_recommend]
impl<T: TypedArguments> TypedArguments for (Ends<()>, T) {
    const TYPE: &'static str = T::TYPE;
}
