//! The layer: its codec, which the verbs use too.

use std::borrow::Cow;
use std::sync::Arc;

use coalescent_core::codec::Codec;
use coalescent_core::{Plugin, Registrar};
use tower_layer::Layer;

use super::service::CourierService;

/// Parses what peers send into [`Message`](coalescent_core::Message)s, and writes messages that the
/// stack answers.
///
/// See the [module](super). Clones, and all the services it makes, share one codec.
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
    /// Makes a courier of MessagePack messages.
    pub fn new() -> Self {
        Self::with_codec(Codec::msgpack())
    }

    /// Makes a courier of JSON messages, as Node's courier reads and writes them.
    pub fn json() -> Self {
        Self::with_codec(Codec::json())
    }

    /// Makes a courier of messages in `codec`.
    pub fn with_codec(codec: Codec) -> Self {
        Self { codec }
    }

    /// Sets the JSON key of the type. Default: `type`. MessagePack has no keys.
    ///
    /// # Panics
    ///
    /// If it is `headers`, or the key of the body: a message would have no place for one of them.
    #[track_caller]
    pub fn type_param(self, key: impl Into<Cow<'static, str>>) -> Self {
        Self::with_codec(self.codec.type_param(key))
    }

    /// Sets the JSON key of the body. Default: `body`. MessagePack has no keys.
    ///
    /// # Panics
    ///
    /// If it is `headers`, or the key of the type: a message would have no place for one of them.
    #[track_caller]
    pub fn body_param(self, key: impl Into<Cow<'static, str>>) -> Self {
        Self::with_codec(self.codec.body_param(key))
    }

    /// Sets how deep the arrays and maps of a body may nest. Default, and highest:
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

/// Puts the codec among the app's shared values, where the verbs and requests find it.
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
