use std::convert::Infallible;
use std::ops::{Deref, DerefMut};

use coalescent_core::Frame;

use super::FromFrameParts;

/// A conversion that derives a part of a state from a reference to the whole.
///
/// Every `Clone` type is a part of itself.
///
/// ```
/// use coalescent::{Router, extract::{FromRef, State}};
/// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
///
/// #[derive(Clone)]
/// struct Counter(Arc<AtomicU64>);
///
/// #[derive(Clone)]
/// struct App {
///     counter: Counter,
/// }
///
/// impl FromRef<App> for Counter {
///     fn from_ref(app: &App) -> Self {
///         app.counter.clone()
///     }
/// }
///
/// async fn count(State(counter): State<Counter>) {
///     counter.0.fetch_add(1, Ordering::Relaxed);
/// }
///
/// let app = App { counter: Counter(Arc::default()) };
/// let router: Router = Router::new().route("count", count).with_state(app);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no part of the state `{T}`",
    label = "cannot be had of the router's state",
    note = "implement `FromRef<{T}>` for it, or give the router a state of that type with `with_state`"
)]
pub trait FromRef<T> {
    /// Returns the part.
    fn from_ref(input: &T) -> Self;
}

impl<T: Clone> FromRef<T> for T {
    fn from_ref(input: &T) -> Self {
        input.clone()
    }
}

/// An extractor of the router's state, or of a part of it by [`FromRef`].
///
/// The state is set with [`Router::with_state`](crate::Router::with_state) and cloned for each
/// frame. Put large or mutable parts behind an `Arc`.
///
/// ```
/// use std::sync::{Arc, Mutex};
///
/// use coalescent::{IntoReply, Router, extract::{Body, State}};
/// # use coalescent::{Message, Reply, test_util, wire::Kind};
/// # use tower::ServiceExt;
///
/// type Scores = Arc<Mutex<Vec<u64>>>;
///
/// async fn score(State(scores): State<Scores>, Body(score): Body<u64>) -> impl IntoReply {
///     let mut scores = scores.lock().unwrap();
///     scores.push(score);
///     ("best", scores.iter().max().copied())
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), coalescent::BoxError> {
/// let router: Router = Router::new().route("score", score).with_state(Scores::default());
/// # for (score, best) in [(7, 7), (3, 7)] {
/// #     let mut frame = test_util::frame(Kind::Data, "");
/// #     frame.set_message(Message::new("score", &score));
/// #     let reply = router.clone().into_service().oneshot(frame).await?;
/// #     let Reply::Message(reply) = reply else { panic!() };
/// #     assert_eq!(reply.body::<u64>()?, best);
/// # }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State<S>(pub S);

impl<Outer, Inner> FromFrameParts<Outer> for State<Inner>
where
    Inner: FromRef<Outer>,
    Outer: Sync,
{
    type Rejection = Infallible;

    const AT_ONCE: bool = true;

    async fn from_frame_parts(_frame: &mut Frame, state: &Outer) -> Result<Self, Infallible> {
        Ok(Self(Inner::from_ref(state)))
    }
}

impl<S> Deref for State<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.0
    }
}

impl<S> DerefMut for State<S> {
    fn deref_mut(&mut self) -> &mut S {
        &mut self.0
    }
}
