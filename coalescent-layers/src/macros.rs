//! The accessors that all services of this crate share.

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

pub(crate) use inner_accessors;
