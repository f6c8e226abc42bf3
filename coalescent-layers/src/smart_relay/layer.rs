//! The layer and its options, and the set that all its services share.

use std::sync::Arc;
use std::time::Duration;

use coalescent_core::{Flow, Plugin, Registrar, Relay};
use tower_layer::Layer;

use super::seen::Limits;
use super::service::SmartRelayService;
use super::shared::{Neighbour, Shared};
use crate::deferred::{self, When};

/// A layer that relays each frame to all other peers the first time it arrives, and suppresses its
/// copies.
///
/// See the [module documentation](super) for what counts as a copy.
///
/// Clones, and all services made by them, share one set of seen frames.
///
/// ```
/// use std::time::Duration;
///
/// use coalescent::{App, AppExt, SmartRelay, transport::Memory};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let network = Memory::new();
/// # let app = || App::new().transport(network.clone());
/// let relay = SmartRelay::new().capacity(500_000).window(Duration::from_secs(60));
/// let hub = app().with(relay.clone()).listen("hub:1").await?;
/// let (alice, bob) = (app().start().await?, app().start().await?);
/// alice.connect("hub:1").await?;
/// bob.connect("hub:1").await?;
/// # hub.connected(2).await?;
/// let mut reader = bob.reader();
/// let _ = alice.broadcast_payload("beep").await?;
/// assert_eq!(reader.next_frame().await.ok_or("it ended")?.payload(), b"beep");
/// # hub.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "it relays nothing until it is added to an app, with `with`"]
pub struct SmartRelay {
    shared: Arc<Shared>,
    limits: Limits,
    direct: bool,
    when: When,
}

impl Default for SmartRelay {
    fn default() -> Self {
        Self::new()
    }
}

impl SmartRelay {
    /// Creates a relay with an empty set. It relays all frames that are addressed to every node.
    pub fn new() -> Self {
        let limits = Limits::default();
        Self {
            shared: Arc::new(Shared::new(limits)),
            limits,
            direct: false,
            when: When::default(),
        }
    }

    /// Sets how many frames the set has room for, separately for frames with and without a nonce,
    /// at [`FRAME_BYTES`](super::FRAME_BYTES) (32) each. Default: [`CAPACITY`](super::CAPACITY),
    /// 2,097,152, which is 64 MiB each.
    ///
    /// Frames of one publisher have consecutive nonces and take 10 bytes each; a frame whose nonce
    /// is far from all others takes 320 bytes, and a frame without a nonce 52: by default there is
    /// room for 6.7 million, 210,000, and 1.3 million of them. One connection may use at most seven
    /// ninths of the room.
    ///
    /// Choose it large enough for all frames that a busy mesh sends in the time that a copy takes
    /// on the longest path. [`SeenStats::refused`] grows if it is too small. The set is replaced by
    /// an empty one that is not shared with earlier clones.
    pub fn capacity(mut self, frames: usize) -> Self {
        self.limits.capacity = frames;
        self.renew()
    }

    /// Sets how long a frame with a nonce is remembered, at most 24 days. Default:
    /// [`TTL`](super::TTL), 120 s.
    ///
    /// The set is replaced by an empty one that is not shared with earlier clones.
    pub fn window(mut self, window: Duration) -> Self {
        self.limits.ttl = window;
        self.renew()
    }

    /// Sets how long the count of equal frames is kept on wires without nonces after the last one,
    /// at most 24 days. Default: [`CONTENT_TTL`](super::CONTENT_TTL), 5 s.
    ///
    /// In two cases the time is that of [`window`](SmartRelay::window), because copies arrive late:
    /// while 4,096 or more different frames without a nonce are remembered, and after a burst that
    /// a link of 16 KiB/s could not have carried within this time, until that link could have
    /// carried it. 16 KiB/s is the slowest link that a node tolerates by default.
    ///
    /// The set is replaced by an empty one that is not shared with earlier clones.
    pub fn content_window(mut self, window: Duration) -> Self {
        self.limits.content_ttl = window;
        self.renew()
    }

    /// Sets how many equal frames of one connection are accepted as new within the
    /// [`content_window`](SmartRelay::content_window) on wires without nonces; at least 1. Further
    /// ones count as copies, so that a cycle of nodes that do not recognize copies cannot cause a
    /// broadcast storm. Default: [`REPEATS`](super::REPEATS), 64.
    ///
    /// The set is replaced by an empty one that is not shared with earlier clones.
    pub fn repeats(mut self, frames: u8) -> Self {
        self.limits.repeats = frames;
        self.renew()
    }

    /// Sets whether frames sent to this node only are relayed too, as broadcasts of this node. The
    /// npm original does so. Default: false.
    pub fn direct(mut self, direct: bool) -> Self {
        self.direct = direct;
        self
    }

    /// Relays a frame only after the rest of the stack has handled it without an error, so that
    /// rejected frames are not passed on.
    ///
    /// Relaying then waits for the handlers, and later frames of the peer wait too while a frame is
    /// being handled. A frame whose call fails or is dropped is not relayed. It still counts as
    /// seen, so a copy is not tried again.
    pub fn relay_after(mut self) -> Self {
        self.when = When::After;
        self
    }

    /// Relays a frame only once a layer further in [accepts](coalescent_core::Frame::accept) it,
    /// and without waiting for its handlers.
    ///
    /// An app with a [`Validate`](crate::Validate) inside of its relay needs no such option. It is
    /// for layers of one's own, and for stacks without an app. What no layer accepts is not
    /// relayed, and counted as [`withheld`](coalescent_core::Stats::withheld).
    pub fn validated(mut self) -> Self {
        self.when = When::Accepted;
        self
    }

    /// Returns the counters of the set.
    #[must_use]
    pub fn seen(&self) -> SeenStats {
        let seen = self.shared.seen();
        SeenStats {
            identities: seen.len(),
            evicted_young: seen.forgotten_young(),
            refused: seen.refused(),
            bytes: seen.bytes(),
        }
    }

    fn renew(mut self) -> Self {
        self.shared = Arc::new(Shared::new(self.limits));
        self
    }
}

impl Plugin for SmartRelay {
    fn register(&self, app: &mut Registrar) {
        app.registered::<Self>();
        deferred::register_relay(app);
        let shared = Arc::clone(&self.shared);
        app.on_broadcast(move |nonce, payload| {
            shared.said(nonce, payload);
        });
    }
}

impl<S> Layer<S> for SmartRelay {
    type Service = SmartRelayService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        let relay = Relay::new(Flow::Drop).direct(self.direct);
        SmartRelayService::new(inner, Neighbour::new(&self.shared), relay, self.when)
    }
}

/// A snapshot of the set of a [`SmartRelay`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeenStats {
    /// Number of frames remembered, including some that may have expired.
    pub identities: usize,
    /// Number of frames evicted before they expired because the set was full and no copy of any
    /// frame had arrived lately, as in a star. A peer could send each of them a second time
    /// unnoticed.
    pub evicted_young: u64,
    /// Number of frames refused, that is, neither handled nor relayed, because the set had no
    /// room. If it grows, increase [`capacity`](SmartRelay::capacity) or limit the rate of the
    /// publishers.
    pub refused: u64,
    /// Approximate memory use of the set, in bytes.
    pub bytes: usize,
}
