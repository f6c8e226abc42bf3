//! Routes whose message type is known from the body that their handler asks for.

use coalescent_core::{BoxError, Frame, Message, MessageType, Reply};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::extract::{Body, BodyRejection, FromFrameParts};
use crate::into_reply::IntoReply;
use crate::macros::all_the_tuples;

/// Extracts a message's body as a `T` that says which type of message it is the body of; as a
/// reply, makes such a message.
///
/// With [`Router::typed`](crate::Router::typed), a handler that asks for it names its route by
/// that. Which message is handed to a handler is the route's to decide, not this extractor's: with
/// a prefix in front of the route, or in a fallback, the message may be of another type.
///
/// ```
/// use coalescent_core::MessageType;
/// use coalescent_router::{Router, Typed};
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

/// The arguments of a handler of which the last is [`Typed`]: what
/// [`Router::typed`](crate::Router::typed) finds the message type by. It is implemented for all of
/// them, so it is only ever named in bounds.
#[diagnostic::on_unimplemented(
    message = "the handler does not say which type of message it is for",
    label = "its last argument is not `Typed<..>`",
    note = "let it end in `Typed(body): Typed<Body>`, where `Body: MessageType`, or name the type \
            with `route`"
)]
pub trait TypedArguments {
    /// The type of the messages.
    const TYPE: &'static str;
}

macro_rules! impl_typed_arguments {
    ([$($ty:ident),*], $last:ident) => {
        #[diagnostic::do_not_recommend]
        impl<M, $($ty,)* $last: MessageType> TypedArguments for (M, $($ty,)* Typed<$last>,) {
            const TYPE: &'static str = $last::TYPE;
        }
    };
}

all_the_tuples!(impl_typed_arguments);
