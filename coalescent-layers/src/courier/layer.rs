//! The layer and its options. It shares its codec with the verbs.

use std::borrow::Cow;
use std::sync::Arc;

use coalescent_core::codec::Codec;
use coalescent_core::{Plugin, Registrar};
use tower_layer::Layer;

use super::service::CourierService;

/// A layer that parses payloads into [`Message`](coalescent_core::Message)s and encodes the
/// messages that the stack replies with.
///
/// See the [module documentation](super). All clones, and all services made by them, share one
/// codec.
///
/// ```
/// use coalescent::{App, AppExt, Courier, PeerExt, transport::Memory};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let network = Memory::new();
/// let app = || App::new().transport(network.clone()).with(Courier::json().type_param("t"));
/// let alice = app().listen("alice:1").await?;
/// let bob = app().start().await?;
/// let mut reader = alice.reader();
///
/// bob.connect("alice:1").await?.send("beep", &42).await?;
///
/// let frame = reader.next_frame().await.ok_or("the mesh has ended")?;
/// assert_eq!(frame.payload(), br#"{"t":"beep","body":42}"#);
/// let message = frame.message().ok_or("no message")?;
/// assert_eq!((message.kind(), message.body::<u32>()?), ("beep", 42));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "it parses nothing until it is added to an app, with `with`"]
pub struct Courier {
    codec: Codec,
}

impl Default for Courier {
    fn default() -> Self {
        Self::new()
    }
}

impl Courier {
    /// Creates a courier of MessagePack messages.
    pub fn new() -> Self {
        Self::with_codec(Codec::msgpack())
    }

    /// Creates a courier of JSON messages, compatible with Node's courier.
    pub fn json() -> Self {
        Self::with_codec(Codec::json())
    }

    /// Creates a courier that uses `codec`.
    pub fn with_codec(codec: Codec) -> Self {
        Self { codec }
    }

    /// Sets the JSON key of the type. Default: `type`. It has no effect on MessagePack, which has
    /// no keys.
    ///
    /// # Panics
    ///
    /// If the key is `headers` or the key of the body.
    #[track_caller]
    pub fn type_param(self, key: impl Into<Cow<'static, str>>) -> Self {
        Self::with_codec(self.codec.type_param(key))
    }

    /// Sets the JSON key of the body. Default: `body`. It has no effect on MessagePack, which has
    /// no keys.
    ///
    /// # Panics
    ///
    /// If the key is `headers` or the key of the type.
    #[track_caller]
    pub fn body_param(self, key: impl Into<Cow<'static, str>>) -> Self {
        Self::with_codec(self.codec.body_param(key))
    }

    /// Sets how deep arrays and maps may nest in a body. Default, and maximum:
    /// [`MAX_DEPTH`](coalescent_core::codec::MAX_DEPTH), 128.
    pub fn max_depth(self, depth: usize) -> Self {
        Self::with_codec(self.codec.max_depth(depth))
    }

    /// Returns the codec.
    #[must_use]
    pub fn codec(&self) -> &Codec {
        &self.codec
    }
}

/// Shares the codec on the node, where the verbs and requests look it up.
impl Plugin for Courier {
    fn register(&self, app: &mut Registrar) {
        app.insert(Arc::new(self.codec.clone()));
    }
}

impl<S> Layer<S> for Courier {
    type Service = CourierService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CourierService::new(inner, self.codec.clone())
    }
}
