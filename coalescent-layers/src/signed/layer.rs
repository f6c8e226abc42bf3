//! The layer and its options.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use coalescent_core::codec::Codec;
use coalescent_core::identity::{Identity, PublicKey};
use coalescent_core::transport::tls::Allow;
use coalescent_core::{Plugin, Registrar};
use tower_layer::Layer;

use super::service::{Options, SignedService};
use super::shared::Shared;
use super::signer::{AppSigner, Signer};
use super::stats::SignedStats;
use super::window::{CAPACITY, FUTURE, Limits, PAST};

/// A layer that checks the signatures of messages, and signs those of this node.
///
/// See the [module documentation](super). Clones, and all services made by them, share one memory
/// of the messages that were accepted.
///
/// ```
/// use coalescent::{App, AppExt, Courier, PeerExt, Signed, identity::Identity, transport::Memory};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let network = Memory::new();
/// let app = || App::new().transport(network.clone()).with(Courier::new());
/// let (alice, mallory) = (Identity::generate(), Identity::generate());
/// let trusted = Signed::new().allow([alice.id()]);
/// let mesh = app().with(trusted.clone()).listen("mesh:1").await?;
/// let mut reader = mesh.reader();
///
/// let hers = app().with(Signed::new().by(alice.clone())).start().await?;
/// let his = app().with(Signed::new().by(mallory)).start().await?;
/// let his = his.connect("mesh:1").await?.clone();
/// his.send("order", "sell").await?;   // withheld
/// his.flushed().await;
/// hers.connect("mesh:1").await?.send("order", "buy").await?;
///
/// let frame = reader.next_frame().await.ok_or("the mesh has ended")?;
/// assert_eq!(frame.author().map(|author| *author.key()), Some(alice.id()));
/// assert_eq!(frame.message().ok_or("no message")?.body::<String>()?, "buy");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "it checks and signs nothing until it is added to an app, with `with`"]
pub struct Signed {
    shared: Arc<Shared>,
    limits: Limits,
    options: Options,
    identity: Option<Identity>,
}

impl Default for Signed {
    fn default() -> Self {
        Self::new()
    }
}

impl Signed {
    /// Creates a layer that takes messages which are properly signed, by anybody, and those that
    /// nobody has signed. It signs nothing.
    pub fn new() -> Self {
        let limits = Limits {
            past: millis(PAST),
            future: millis(FUTURE),
            capacity: CAPACITY,
        };
        Self {
            shared: Arc::new(Shared::new(limits)),
            limits,
            options: Options::default(),
            identity: None,
        }
    }

    /// Takes only messages that are properly signed, by anybody. Others are withheld.
    pub fn require(mut self) -> Self {
        self.options.require = true;
        self
    }

    /// Takes only messages that are properly signed by one of these keys. Others are withheld, and
    /// cost no verification. An empty list takes nothing.
    pub fn allow(mut self, keys: impl IntoIterator<Item = PublicKey>) -> Self {
        self.options.require = true;
        self.options.allow = Allow::only(keys);
        self
    }

    /// Treats a message whose signature does not hold, or that was heard before, as one that nobody
    /// has signed, instead of withholding it. For showing everything and marking what is proven.
    pub fn pass_invalid(mut self) -> Self {
        self.options.pass_invalid = true;
        self
    }

    /// Signs what this node says, with the key of `identity`: all messages that the courier's verbs
    /// and requests send, and those that layers and handlers inside this layer reply with. It may
    /// be the identity of the node's connections, or another.
    ///
    /// A message that has a signature already keeps it, so a received one can be passed on as its
    /// author's. Payloads that do not go through the courier are not signed.
    pub fn by(mut self, identity: Identity) -> Self {
        self.options.signs = true;
        self.identity = Some(identity);
        self
    }

    /// Sets how far in the past and in the future, by this node's clock, the time of a message may
    /// be. Default: [`PAST`](super::PAST), 120 s, and [`FUTURE`](super::FUTURE), 30 s.
    ///
    /// The memory is replaced by an empty one that is not shared with earlier clones.
    pub fn window(mut self, past: Duration, future: Duration) -> Self {
        self.limits.past = millis(past);
        self.limits.future = millis(future);
        self.renew()
    }

    /// Sets how many accepted messages are remembered, to recognize replays. Default:
    /// [`CAPACITY`](super::CAPACITY), 65,536; at most some 350 bytes each, 22 MiB. A sixteenth of
    /// it is for one author.
    ///
    /// With too little room no replay is accepted, but messages that arrive later than others are
    /// refused, and from half full on those from more than a second in the future; see
    /// [`SignedStats::crowded`]. Choose it for the messages of as many seconds as a
    /// message may take to arrive.
    ///
    /// The memory is replaced by an empty one that is not shared with earlier clones.
    pub fn capacity(mut self, messages: usize) -> Self {
        self.limits.capacity = messages;
        self.renew()
    }

    /// Returns the counters of all services of this layer.
    #[must_use]
    pub fn stats(&self) -> SignedStats {
        self.shared.stats()
    }

    fn renew(mut self) -> Self {
        self.shared = Arc::new(Shared::new(self.limits));
        self
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Lets the node's codec sign, if there is an identity.
///
/// # Panics
///
/// Registering panics if the layer signs and no courier was registered before.
impl Plugin for Signed {
    fn register(&self, app: &mut Registrar) {
        let Some(identity) = &self.identity else {
            return;
        };
        let codec: Codec = match app.get::<Arc<Codec>>() {
            Some(codec) => Codec::clone(codec),
            None => panic!("`Signed` signs messages: add the `Courier` first, outside of it"),
        };
        let network = Arc::new(OnceLock::new());
        let signer = AppSigner {
            signer: Signer::new(identity.clone(), Arc::clone(&self.shared)),
            network: Arc::clone(&network),
        };
        app.on_config(move |config| {
            let _ = network.set(config.network.clone());
        });
        app.insert(Arc::new(codec.sealed_by(Arc::new(signer))));
    }
}

impl<S> Layer<S> for Signed {
    type Service = SignedService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SignedService::new(inner, Arc::clone(&self.shared), self.options.clone())
    }
}
