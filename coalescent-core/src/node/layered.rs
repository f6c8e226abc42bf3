//! Which layers the app's stack has, for errors that say how one of them was added.

use super::Peers;

/// The name of the type of the app's stack of layers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StackName(pub(crate) &'static str);

impl Peers {
    /// Returns whether the path of the type of one of the app's layers begins with `path`.
    ///
    /// For the text of an error only: names of types are no promise of the compiler.
    #[doc(hidden)]
    #[must_use]
    pub fn has_layer(&self, path: &str) -> bool {
        self.get_shared()
            .is_some_and(|StackName(stack)| is_among(stack, path))
    }
}

/// Returns whether a path in the name of a type, `stack`, begins with `path`.
pub(crate) fn is_among(stack: &str, path: &str) -> bool {
    stack
        .split(['<', '>', ',', ' ', '&', '(', ')'])
        .any(|name| name.starts_with(path))
}

#[cfg(test)]
mod tests {
    use super::is_among;

    #[test]
    fn a_layer_is_found_among_others_and_by_its_whole_path() {
        let stack =
            "tower::Stack<a::courier::Courier, tower::Stack<b::Router<()>, tower::Identity>>";
        assert!(is_among(stack, "a::courier::"));
        assert!(is_among(stack, "b::Router"));
        assert!(!is_among(stack, "courier::Courier"));
        assert!(!is_among("", "a::"));
    }
}
