//! The extractors: values that handlers take as arguments.
//!
//! Each argument of a handler is an extractor, which is created from the frame before the handler
//! runs. If one cannot be created, the frame fails and the handler does not run. Take an `Option`
//! or a `Result` of the extractor to handle that case yourself.
//!
//! | extractor | value | fails if |
//! |---|---|---|
//! | [`Body<T>`] | the message's body, as a `T` | the body is not a `T` |
//! | [`Type`] | the message's type | there is no message |
//! | [`Headers`] | the message's headers | there is no message |
//! | [`RawBody`] | the message's body, still encoded | there is no message |
//! | [`Message`] | the message | there is no message |
//! | [`Topic`] | the name of the message's topic | it belongs to no topic |
//! | [`Bytes`] | the frame's payload | never |
//! | [`Peer`] | the peer that sent the frame | never |
//! | `Author` (feature `tls`) | who has signed the message | nobody has, or no layer checks it |
//! | [`Peers`] | all connected peers | never |
//! | [`Mesh`] | the running app | no app is running |
//! | [`State<T>`] | the router's state, or a part of it | never; checked when compiling |
//! | [`Extension<T>`] | a value attached by a layer, a hook or a plugin | there is none |
//! | [`Shared<T>`] | a value of the mesh | there is none |
//! | [`Frame`] | the whole frame; must be the last argument | never |
//!
//! ```
//! use coalescent::{Error, Peer};
//! use coalescent::extract::{Body, BodyRejection, Headers, Type};
//!
//! async fn one(peer: Peer, Type(kind): Type, headers: Headers, Body(body): Body<Vec<u8>>) {
//!     println!("{}: {kind}, {} bytes, {:?}", peer.id(), body.len(), headers.get::<u8>("hops"));
//! }
//!
//! async fn two(body: Result<Body<u64>, BodyRejection>) -> Result<(), BodyRejection> {
//!     match body {
//!         Ok(Body(number)) => println!("{number}"),
//!         Err(error) => println!("not a number: {error}"),
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # Writing an extractor
//!
//! Implement [`FromFrameParts`]:
//!
//! ```
//! use coalescent::Frame;
//! use coalescent::identity::PublicKey;
//! use coalescent::extract::FromFrameParts;
//!
//! /// The public key of a peer that has proven one.
//! struct Key(PublicKey);
//!
//! impl<S: Sync> FromFrameParts<S> for Key {
//!     type Rejection = &'static str;
//!
//!     async fn from_frame_parts(frame: &mut Frame, _state: &S) -> Result<Self, &'static str> {
//!         let key = frame.peer().id().key();
//!         key.map(Self).ok_or("this needs a peer with an identity")
//!     }
//! }
//!
//! async fn admin(Key(key): Key) {
//!     println!("{key}");
//! }
//! # use coalescent::Router;
//! # let router: Router = Router::new().route("admin", admin);
//! ```

#[cfg(feature = "tls")]
mod author;
mod body;
mod message;
mod option;
mod peer;
mod rejection;
mod state;
mod topic;
mod value;

use std::future::Future;

pub use body::{Body, RawBody};
#[doc(no_inline)]
pub use bytes::Bytes;
use coalescent_core::BoxError;
#[cfg(feature = "tls")]
#[doc(no_inline)]
pub use coalescent_core::identity::Author;
#[doc(no_inline)]
pub use coalescent_core::{Frame, Mesh, Message, Peer, Peers};
pub use message::{Headers, Type};
pub use option::OptionalFromFrameParts;
#[cfg(feature = "tls")]
pub use rejection::AuthorRejection;
pub use rejection::{
    BodyRejection, MeshRejection, MessageRejection, TopicRejection, ValueRejection,
};
pub use state::{FromRef, State};
pub use topic::Topic;
pub use value::{Extension, Shared};

pub(crate) mod private {
    #[derive(Debug)]
    pub enum ViaParts {}
    #[derive(Debug)]
    pub enum ViaFrame {}
}

/// An extractor that borrows the frame. It may be any argument of a handler.
///
/// ```
/// use coalescent::{Frame, IntoReply, Router, extract::FromFrameParts};
/// # use coalescent::{Message, Reply, test_util, wire::Kind};
/// # use tower::ServiceExt;
///
/// /// How many bytes have come.
/// struct Size(usize);
///
/// impl<S: Sync> FromFrameParts<S> for Size {
///     type Rejection = &'static str;
///
///     async fn from_frame_parts(frame: &mut Frame, _state: &S) -> Result<Self, &'static str> {
///         match frame.payload().len() {
///             0 => Err("nothing has come"),
///             size => Ok(Self(size)),
///         }
///     }
/// }
///
/// async fn count(Size(size): Size) -> impl IntoReply {
///     ("counted", size)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), coalescent::BoxError> {
/// let router: Router = Router::new().route("count", count);
/// # let mut frame = test_util::frame(Kind::Data, "beep");
/// # frame.set_message(Message::new("count", &()));
/// # let reply = router.clone().into_service().oneshot(frame).await?;
/// # let Reply::Message(reply) = reply else { panic!() };
/// # assert_eq!(reply.body::<usize>()?, 4);
/// # let mut frame = test_util::frame(Kind::Data, "");
/// # frame.set_message(Message::new("count", &()));
/// # assert!(router.into_service().oneshot(frame).await.is_err());
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no extractor, or one that must come last",
    label = "`{Self}` cannot be an argument here",
    note = "an extractor that takes the frame whole, such as `Frame`, must be the last argument; see \
            `coalescent::extract` for the others"
)]
pub trait FromFrameParts<S>: Sized {
    /// The error if the value cannot be extracted. It fails the frame.
    type Rejection: Into<BoxError>;

    /// Whether extraction completes without waiting and leaves the frame unchanged. If so, a frame
    /// that goes on after its handler is not cloned.
    #[doc(hidden)]
    const AT_ONCE: bool = false;

    /// Extracts the value.
    fn from_frame_parts(
        frame: &mut Frame,
        state: &S,
    ) -> impl Future<Output = Result<Self, Self::Rejection>> + Send;
}

/// An extractor that consumes the frame. It must be the last argument of a handler.
///
/// Every [`FromFrameParts`] implements this trait too. `M` distinguishes the two kinds and is
/// always inferred.
///
/// ```
/// use std::convert::Infallible;
///
/// use coalescent::{Frame, IntoReply, Router, extract::{FromFrame, Type}};
/// # use coalescent::{Message, Reply, test_util, wire::Kind};
/// # use tower::ServiceExt;
///
/// /// The payload, which is taken out of the frame.
/// struct Taken(bytes::Bytes);
///
/// impl<S: Sync> FromFrame<S> for Taken {
///     type Rejection = Infallible;
///
///     async fn from_frame(frame: Frame, _state: &S) -> Result<Self, Infallible> {
///         Ok(Self(frame.into_payload()))
///     }
/// }
///
/// async fn take(Type(kind): Type, Taken(payload): Taken) -> impl IntoReply {
///     (kind, payload.len())
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), coalescent::BoxError> {
/// let router: Router = Router::new().route("take", take);
/// # let mut frame = test_util::frame(Kind::Data, "beep");
/// # frame.set_message(Message::new("take", &()));
/// # let Reply::Message(reply) = router.into_service().oneshot(frame).await? else { panic!() };
/// # assert_eq!((reply.kind(), reply.body::<usize>()?), ("take", 4));
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no extractor",
    label = "`{Self}` cannot be an argument here",
    note = "see `coalescent::extract` for what can be; a `State<T>` needs a router whose state \
            is `T`, or `T: FromRef<S>`, and a `Body<T>` needs `T: DeserializeOwned`",
    note = "in a middleware, the argument before `Next` must take the frame, as `Frame` does"
)]
pub trait FromFrame<S, M = private::ViaFrame>: Sized {
    /// The error if the value cannot be extracted. It fails the frame.
    type Rejection: Into<BoxError>;

    /// Like [`FromFrameParts::AT_ONCE`].
    #[doc(hidden)]
    const AT_ONCE: bool = false;

    /// Extracts the value.
    fn from_frame(
        frame: Frame,
        state: &S,
    ) -> impl Future<Output = Result<Self, Self::Rejection>> + Send;

    /// Extracts the value from a frame that goes on afterwards.
    #[doc(hidden)]
    fn from_frame_mut(
        frame: &mut Frame,
        state: &S,
    ) -> impl Future<Output = Result<Self, Self::Rejection>> + Send {
        Self::from_frame(frame.clone(), state)
    }
}

impl<S, T> FromFrame<S, private::ViaParts> for T
where
    S: Send + Sync,
    T: FromFrameParts<S>,
{
    type Rejection = <Self as FromFrameParts<S>>::Rejection;

    const AT_ONCE: bool = <Self as FromFrameParts<S>>::AT_ONCE;

    async fn from_frame(mut frame: Frame, state: &S) -> Result<Self, Self::Rejection> {
        Self::from_frame_parts(&mut frame, state).await
    }

    fn from_frame_mut(
        frame: &mut Frame,
        state: &S,
    ) -> impl Future<Output = Result<Self, Self::Rejection>> + Send {
        Self::from_frame_parts(frame, state)
    }
}
