use std::convert::Infallible;
use std::ops::{Deref, DerefMut};

use coalescent_core::Frame;

use super::rejection::ValueRejection;
use super::{FromFrameParts, OptionalFromFrameParts};

/// An extractor of a value attached to the frame, or else to its peer, or else to the mesh.
///
/// Values are attached to a frame by an outer layer ([`Frame::extensions_mut`]), to a peer by a
/// hook or a layer ([`Peer::set`](coalescent_core::Peer::set)), and to the mesh by a plugin or the
/// application ([`Mesh::set`](coalescent_core::Mesh::set)).
///
/// ```
/// use coalescent::{IntoReply, Router, extract::Extension};
/// # use coalescent::{Message, Reply, test_util, wire::Kind};
/// # use tower::ServiceExt;
///
/// /// Kept with a peer by whoever has let it in: `peer.set(Role("admin"))`.
/// #[derive(Clone)]
/// struct Role(&'static str);
///
/// async fn role(role: Option<Extension<Role>>) -> impl IntoReply {
///     ("role", role.map_or("guest", |Extension(Role(name))| name))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), coalescent::BoxError> {
/// let router: Router = Router::new().route("role", role);
/// # let mut frame = test_util::frame(Kind::Data, "");
/// # frame.set_message(Message::new("role", &()));
/// # frame.peer().set(Role("admin"));
/// # let Reply::Message(reply) = router.into_service().oneshot(frame).await? else { panic!() };
/// # assert_eq!(reply.body::<String>()?, "admin");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extension<T>(pub T);

fn extension<T: Clone + Send + Sync + 'static>(frame: &Frame) -> Option<Extension<T>> {
    let attached = frame.extensions().get::<T>().cloned();
    attached
        .or_else(|| frame.peer().get())
        .or_else(|| frame.peer().peers().get_shared())
        .map(Extension)
}

impl<S, T> FromFrameParts<S> for Extension<T>
where
    S: Sync,
    T: Clone + Send + Sync + 'static,
{
    type Rejection = ValueRejection;

    const AT_ONCE: bool = true;

    async fn from_frame_parts(frame: &mut Frame, _state: &S) -> Result<Self, ValueRejection> {
        extension(frame).ok_or_else(ValueRejection::extension::<T>)
    }
}

impl<S, T> OptionalFromFrameParts<S> for Extension<T>
where
    S: Sync,
    T: Clone + Send + Sync + 'static,
{
    type Rejection = Infallible;

    const AT_ONCE: bool = true;

    async fn from_frame_parts(frame: &mut Frame, _state: &S) -> Result<Option<Self>, Infallible> {
        Ok(extension(frame))
    }
}

/// An extractor of a value of the mesh, set with [`Mesh::set`](coalescent_core::Mesh::set) or by a
/// plugin.
///
/// ```
/// use coalescent::{IntoReply, Router, extract::Shared};
/// # use coalescent::{Message, Reply, test_util, wire::Kind};
/// # use tower::ServiceExt;
///
/// /// Set for the whole node: `mesh.set(Motto("be kind"))`.
/// #[derive(Clone)]
/// struct Motto(&'static str);
///
/// async fn motto(Shared(Motto(text)): Shared<Motto>) -> impl IntoReply {
///     ("motto", text)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), coalescent::BoxError> {
/// let router: Router = Router::new().route("motto", motto);
/// # let mut frame = test_util::frame(Kind::Data, "");
/// # frame.set_message(Message::new("motto", &()));
/// # frame.peer().peers().set_shared(Motto("be kind"));
/// # let Reply::Message(reply) = router.into_service().oneshot(frame).await? else { panic!() };
/// # assert_eq!(reply.body::<String>()?, "be kind");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shared<T>(pub T);

impl<S, T> FromFrameParts<S> for Shared<T>
where
    S: Sync,
    T: Clone + Send + Sync + 'static,
{
    type Rejection = ValueRejection;

    const AT_ONCE: bool = true;

    async fn from_frame_parts(frame: &mut Frame, _state: &S) -> Result<Self, ValueRejection> {
        let shared = frame.peer().peers().get_shared();
        shared.map(Self).ok_or_else(ValueRejection::shared::<T>)
    }
}

impl<S, T> OptionalFromFrameParts<S> for Shared<T>
where
    S: Sync,
    T: Clone + Send + Sync + 'static,
{
    type Rejection = Infallible;

    const AT_ONCE: bool = true;

    async fn from_frame_parts(frame: &mut Frame, _state: &S) -> Result<Option<Self>, Infallible> {
        Ok(frame.peer().peers().get_shared().map(Self))
    }
}

macro_rules! impl_deref {
    ($name:ident) => {
        impl<T> Deref for $name<T> {
            type Target = T;

            fn deref(&self) -> &T {
                &self.0
            }
        }

        impl<T> DerefMut for $name<T> {
            fn deref_mut(&mut self) -> &mut T {
                &mut self.0
            }
        }
    };
}

impl_deref!(Extension);
impl_deref!(Shared);
