//! The layer and its options.

use std::fmt;
use std::time::Duration;

use coalescent_core::{Frame, Plugin, Registrar, Verdict};
use tower_layer::Layer;

use super::check::{AsyncCheck, SyncCheck};
use super::service::ValidateService;
use crate::deferred;

/// How long a verdict may take by default.
pub const VERDICT_TIME: Duration = Duration::from_secs(10);

/// A layer that asks a check for a [`Verdict`] on each frame, before a relay further out passes it
/// on.
///
/// See the [module documentation](super) for where it belongs.
///
/// ```
/// use coalescent::{App, AppExt, Frame, SmartRelay, transport::Memory};
/// use coalescent::validate::{Validate, Verdict};
///
/// /// Nobody relays long frames here.
/// fn check(frame: &Frame) -> Verdict {
///     if frame.payload().len() > 100 { Verdict::Ignore } else { Verdict::Accept }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let network = Memory::new();
/// # let app = || App::new().transport(network.clone());
/// let hub = app().with(SmartRelay::new()).with(Validate::sync(check)).listen("hub:1").await?;
/// let (alice, bob) = (app().start().await?, app().start().await?);
/// alice.connect("hub:1").await?;
/// bob.connect("hub:1").await?;
/// # hub.connected(2).await?;
/// let mut reader = bob.reader();
/// let _ = alice.broadcast_payloads(["x".repeat(101), "short".into()]).await?;
/// assert_eq!(reader.next_frame().await.ok_or("it ended")?.payload(), b"short");
/// assert_eq!(hub.shutdown().await.withheld, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "it judges nothing until it is added to an app, with `with`"]
pub struct Validate<C> {
    check: C,
    within: Duration,
}

impl<F, Fut> Validate<AsyncCheck<F>>
where
    F: Fn(Frame) -> Fut,
    Fut: Future<Output = Verdict>,
{
    /// Creates a layer that asks `check`, which may wait, for a verdict on each frame. The check
    /// gets a clone of the frame, with what layers further out have attached to it, such as the
    /// [`message`](Frame::message). A closure that captures something must give each future its
    /// own: `move |frame| { let db = db.clone(); async move { .. } }`.
    ///
    /// Its future is dropped after [`within`](Validate::within), or when the connection ends.
    pub fn new(check: F) -> Self {
        Self::with_check(AsyncCheck(check))
    }
}

impl<F> Validate<SyncCheck<F>>
where
    F: Fn(&Frame) -> Verdict,
{
    /// Creates a layer that asks `check`, which does not wait, for a verdict on each frame. It
    /// costs less than [`new`](Validate::new), and frames that are accepted are relayed in the
    /// order of their arrival.
    pub fn sync(check: F) -> Self {
        Self::with_check(SyncCheck(check))
    }
}

impl<C> Validate<C> {
    fn with_check(check: C) -> Self {
        Self {
            check,
            within: VERDICT_TIME,
        }
    }

    /// Sets how long a verdict may take. Afterwards the check is dropped, and the frame is neither
    /// relayed nor handled; a later copy is judged anew. Default: [`VERDICT_TIME`], 10 s.
    pub fn within(mut self, time: Duration) -> Self {
        self.within = time;
        self
    }
}

/// Has the relays that were registered before wait for the verdicts.
impl<C> Plugin for Validate<C> {
    fn register(&self, app: &mut Registrar) {
        deferred::register_verdicts(app);
    }
}

impl<S, C: Clone> Layer<S> for Validate<C> {
    type Service = ValidateService<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        ValidateService::new(inner, self.check.clone(), self.within)
    }
}

impl<C> fmt::Debug for Validate<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Validate")
            .field("within", &self.within)
            .finish_non_exhaustive()
    }
}
