use std::convert::Infallible;
use std::ops::{Deref, DerefMut};

use coalescent_core::Frame;

use super::rejection::ValueRejection;
use super::{FromFrameParts, OptionalFromFrameParts};

/// Extracts a value that was attached to the frame, else to its peer, else to the mesh.
///
/// A layer further out attaches it to a frame ([`Frame::extensions_mut`]), a hook or a layer to a
/// peer ([`Peer::set`](coalescent_core::Peer::set)), a plugin or the application to the mesh
/// ([`Mesh::set`](coalescent_core::Mesh::set)).
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

/// Extracts a value of the mesh: what [`Mesh::set`](coalescent_core::Mesh::set) or a plugin put
/// there.
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
