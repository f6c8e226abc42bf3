//! The macros of this crate.

/// Calls the macro `$name` for each number of extractors from 1 to 16. The last extractor is passed
/// separately, because only it may consume the frame.
#[rustfmt::skip]
macro_rules! all_the_tuples {
    ($name:ident) => {
        $name!([], T1);
        $name!([T1], T2);
        $name!([T1, T2], T3);
        $name!([T1, T2, T3], T4);
        $name!([T1, T2, T3, T4], T5);
        $name!([T1, T2, T3, T4, T5], T6);
        $name!([T1, T2, T3, T4, T5, T6], T7);
        $name!([T1, T2, T3, T4, T5, T6, T7], T8);
        $name!([T1, T2, T3, T4, T5, T6, T7, T8], T9);
        $name!([T1, T2, T3, T4, T5, T6, T7, T8, T9], T10);
        $name!([T1, T2, T3, T4, T5, T6, T7, T8, T9, T10], T11);
        $name!([T1, T2, T3, T4, T5, T6, T7, T8, T9, T10, T11], T12);
        $name!([T1, T2, T3, T4, T5, T6, T7, T8, T9, T10, T11, T12], T13);
        $name!([T1, T2, T3, T4, T5, T6, T7, T8, T9, T10, T11, T12, T13], T14);
        $name!([T1, T2, T3, T4, T5, T6, T7, T8, T9, T10, T11, T12, T13, T14], T15);
        $name!([T1, T2, T3, T4, T5, T6, T7, T8, T9, T10, T11, T12, T13, T14, T15], T16);
    };
}

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

pub(crate) use all_the_tuples;
pub(crate) use inner_accessors;
