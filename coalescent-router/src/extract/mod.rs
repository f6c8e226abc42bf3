//! What handlers can ask for.
//!
//! A handler's arguments are its extractors: each is made of the frame before the handler runs. One
//! that cannot be made fails the frame, and the handler does not run; ask for an `Option` or a
//! `Result` of it to look into that yourself.
//!
//! | extractor | is | fails without |
//! |---|---|---|
//! | [`Body<T>`] | the message's body, as a `T` | a body that is a `T` |
//! | [`Type`] | the message's type | a message |
//! | [`Headers`] | the message's headers | a message |
//! | [`RawBody`] | the message's body, as it is encoded | a message |
//! | [`Message`] | the message | a message |
//! | [`Bytes`] | the frame's payload | |
//! | [`Peer`] | the peer that sent the frame | |
//! | [`Peers`] | all connected peers | |
//! | [`Mesh`] | the running app | an app that runs |
//! | [`State<T>`] | the router's state, or a part of it | (does not compile) |
//! | [`Extension<T>`] | a value that a layer, a hook or a plugin attached | such a value |
//! | [`Shared<T>`] | a value of the mesh | such a value |
//! | [`Frame`] | all of it; comes last | |
//!
//! ```
//! use coalescent_core::{Error, Peer};
//! use coalescent_router::extract::{Body, BodyRejection, Headers, Type};
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
//! # Writing one
//!
//! Implement [`FromFrameParts`]:
//!
//! ```
//! use coalescent_core::{Frame, PeerId};
//! use coalescent_router::extract::FromFrameParts;
//!
//! /// The public key of a peer that has proven one.
//! struct Key([u8; 32]);
//!
//! impl<S: Sync> FromFrameParts<S> for Key {
//!     type Rejection = &'static str;
//!
//!     async fn from_frame_parts(frame: &mut Frame, _state: &S) -> Result<Self, &'static str> {
//!         match frame.peer().id() {
//!             PeerId::Key(key) => Ok(Self(*key)),
//!             _ => Err("this needs a peer with an identity"),
//!         }
//!     }
//! }
//!
//! async fn admin(Key(key): Key) {
//!     println!("{key:?}");
//! }
//! # let router: coalescent_router::Router = coalescent_router::Router::new().route("admin", admin);
//! ```

mod body;
mod message;
mod option;
mod peer;
mod rejection;
mod state;
mod value;

use std::future::Future;

pub use body::{Body, RawBody};
#[doc(no_inline)]
pub use bytes::Bytes;
use coalescent_core::BoxError;
#[doc(no_inline)]
pub use coalescent_core::{Frame, Mesh, Message, Peer, Peers};
pub use message::{Headers, Type};
pub use option::OptionalFromFrameParts;
pub use rejection::{BodyRejection, MeshRejection, MessageRejection, ValueRejection};
pub use state::{FromRef, State};
pub use value::{Extension, Shared};

mod private {
    #[derive(Debug)]
    pub enum ViaParts {}
    #[derive(Debug)]
    pub enum ViaFrame {}
}

/// Makes an extractor of a frame that other extractors look at too. It may be any argument of a
/// handler.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no extractor, or one that must come last",
    label = "cannot be an argument of a handler here",
    note = "an extractor that takes the frame whole, such as `Frame`, must be the last argument; see \
            `coalescent_router::extract` for the others"
)]
pub trait FromFrameParts<S>: Sized {
    /// The error that the frame fails with where it cannot be made.
    type Rejection: Into<BoxError>;

    /// Whether it is made without waiting, and leaves the frame as it was: then a frame that goes
    /// on after its handler need not be cloned.
    #[doc(hidden)]
    const AT_ONCE: bool = false;

    /// Makes it.
    fn from_frame_parts(
        frame: &mut Frame,
        state: &S,
    ) -> impl Future<Output = Result<Self, Self::Rejection>> + Send;
}

/// Makes an extractor of a whole frame. It may be the last argument of a handler.
///
/// All that are [`FromFrameParts`] are this too. `M` tells them apart, and is always inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no extractor",
    label = "cannot be an argument of a handler",
    note = "see `coalescent_router::extract` for what can be; a `State<T>` needs a router whose state \
            is `T`, or `T: FromRef<S>`, and a `Body<T>` needs `T: DeserializeOwned`"
)]
pub trait FromFrame<S, M = private::ViaFrame>: Sized {
    /// The error that the frame fails with where it cannot be made.
    type Rejection: Into<BoxError>;

    /// As [`FromFrameParts::AT_ONCE`].
    #[doc(hidden)]
    const AT_ONCE: bool = false;

    /// Makes it.
    fn from_frame(
        frame: Frame,
        state: &S,
    ) -> impl Future<Output = Result<Self, Self::Rejection>> + Send;

    /// Makes it of a frame that goes on afterwards.
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
