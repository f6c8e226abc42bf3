//! For how many outbound places there is nobody to dial.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Tells for how many outbound places this node knows nobody to dial, from
/// [`Mesh::wanted`](crate::Mesh::wanted).
///
/// It is for plugins that find peers: they ask around while the number is not 0, and
/// [suggest](crate::Mesh::suggest) what they find.
///
/// ```
/// use coalescent::{App, Source, Suggestion};
/// # use coalescent::transport::Memory;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let network = Memory::new();
/// # let alice = App::new().transport(network.clone()).listen("alice:1").await?;
/// let app = App::new().min_peers(1);
/// # let mesh = app.transport(network).start().await?;
/// let mut wanted = mesh.wanted();
/// while wanted.now() == 0 {
///     wanted.changed().await;
/// }
/// mesh.suggest(Suggestion::new("alice:1".parse()?, Source::new("a friend")));
/// assert_eq!(wanted.changed().await, Some(0));
/// # drop(alice);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Wanted {
    number: watch::Receiver<usize>,
    stop: CancellationToken,
}

impl Wanted {
    pub(crate) fn new(number: watch::Receiver<usize>, stop: CancellationToken) -> Self {
        Self { number, stop }
    }

    /// Returns the number of such places now, at most
    /// [`Config::min_peers`](crate::Config::min_peers).
    ///
    /// A place counts as filled by an outbound peer, and by an address that was not tried yet or
    /// whose last dial did not fail. So a place for which there are only dead seeds is wanted.
    #[must_use]
    pub fn now(&self) -> usize {
        *self.number.borrow()
    }

    /// Waits until the number changes, and returns it; `None` when the mesh ends. A change since
    /// the last call, or since this was made, is told at once.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no change is missed.
    pub async fn changed(&mut self) -> Option<usize> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            changed = self.number.changed() => {
                changed.ok()?;
                Some(*self.number.borrow_and_update())
            }
        }
    }
}
