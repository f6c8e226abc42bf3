use std::convert::Infallible;
use std::future::Future;

use coalescent_core::{BoxError, Frame};

use super::{FromFrame, FromFrameParts};

/// An extractor that handlers can take as `Option<T>`.
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
