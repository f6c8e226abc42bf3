//! What all services, and all plugins that are no layers, of this crate share.

/// Defines `get_ref`, `get_mut` and `into_inner` for a service with a field `inner` of type
/// `$inner`.
macro_rules! inner_accessors {
    ($inner:ident) => {
        /// Returns a reference to the wrapped service, the next one inward in the stack.
        #[inline]
        pub fn get_ref(&self) -> &$inner {
            &self.inner
        }

        /// Returns a mutable reference to the wrapped service.
        ///
        /// A call made through it bypasses this layer.
        #[inline]
        pub fn get_mut(&mut self) -> &mut $inner {
            &mut self.inner
        }

        /// Consumes this service and returns the wrapped one.
        ///
        /// The state that this layer keeps for the connection is dropped.
        #[inline]
        pub fn into_inner(self) -> $inner {
            self.inner
        }
    };
}

/// Implements [`Layer`](tower_layer::Layer) for a plugin that sees no frames, so that it can be
/// added with [`with`](coalescent_core::AppExt::with), like the plugins that do.
macro_rules! no_layer {
    ($plugin:ty) => {
        /// Adds nothing to the stack.
        impl<S> tower_layer::Layer<S> for $plugin {
            type Service = S;

            fn layer(&self, inner: S) -> S {
                inner
            }
        }
    };
}

pub(crate) use inner_accessors;
pub(crate) use no_layer;
