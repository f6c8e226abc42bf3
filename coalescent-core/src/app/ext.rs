//! Adding middleware and plugins to an app.

use tower_layer::Stack;

use super::App;
use crate::app::plugin::Plugin;
use crate::stack::AnyLayer;

/// Registration of middleware and plugins with an [`App`].
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
///
/// use coalescent::{App, AppExt, Plugin, Registrar, transport::Memory};
/// use tower_layer::Layer;
///
/// /// Counts connections: an app applies its layers once for each.
/// #[derive(Clone, Default)]
/// struct Connections(Arc<AtomicUsize>);
///
/// impl<S> Layer<S> for Connections {
///     type Service = S;
///
///     fn layer(&self, inner: S) -> S {
///         self.0.fetch_add(1, Relaxed);
///         inner
///     }
/// }
///
/// impl Plugin for Connections {
///     fn register(&self, app: &mut Registrar) {
///         app.insert(self.clone()); // for `mesh.get::<Connections>()`
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let network = Memory::new();
/// let app = App::new().with(Connections::default());
/// let alice = app.transport(network.clone()).listen("alice:1").await?;
/// let mut heard = alice.reader();
/// let bob = App::new().transport(network).start().await?;
/// bob.connect("alice:1").await?.send_payload("beep").await?;
/// heard.next_frame().await;
///
/// let connections = alice.get::<Connections>().ok_or("the plugin is not registered")?;
/// assert_eq!(connections.0.load(Relaxed), 1);
/// # Ok(())
/// # }
/// ```
pub trait AppExt: Sized {
    /// The layers that were added so far.
    type Layers;

    /// Registers a middleware: applies it as a [`Plugin`], then adds it as a layer, inside the
    /// layers that were added before.
    ///
    /// For a layer that is no plugin, such as those of tower, there is [`App::layer`].
    fn with<M: Plugin + AnyLayer>(self, middleware: M) -> App<Stack<M, Self::Layers>>;

    /// Applies a plugin that is not a layer.
    fn plugin<P: Plugin>(self, plugin: P) -> App<Self::Layers>;
}

impl<L> AppExt for App<L> {
    type Layers = L;

    fn with<M: Plugin + AnyLayer>(mut self, middleware: M) -> App<Stack<M, L>> {
        middleware.register(&mut self.registrar);
        self.layer(middleware)
    }

    fn plugin<P: Plugin>(mut self, plugin: P) -> Self {
        plugin.register(&mut self.registrar);
        self
    }
}
