//! What layers inside of a relay tell it about a frame, and who has said the frame's message.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};

use super::Frame;
#[cfg(feature = "tls")]
use crate::transport::identity::Author;

/// Whether a layer has [withheld](Frame::withhold) a frame, for the relay that waits for that.
#[derive(Clone, Debug, Default)]
pub struct Withheld(Arc<AtomicBool>);

impl Withheld {
    /// Returns whether the frame is not to be passed on.
    #[must_use]
    pub fn get(&self) -> bool {
        self.0.load(Acquire)
    }
}

impl Frame {
    /// Declares that this frame, and its clones, are not to be passed on to other peers. It is no
    /// error, and nobody pays for it.
    ///
    /// Only a relay further out that waits for the rest of the stack, such as one with
    /// `relay_after`, obeys; a relay that has decided already cannot take that back. Returns
    /// whether there is a relay that waits.
    pub fn withhold(&self) -> bool {
        match self.extensions().get::<Withheld>() {
            Some(Withheld(withheld)) => {
                withheld.store(true, Release);
                true
            }
            None => false,
        }
    }

    /// Returns whether layers further in have withheld the frame; ask it after they have handled
    /// the frame. A relay that waits for them calls this.
    pub fn watch_withheld(&mut self) -> Withheld {
        self.extensions_mut()
            .get_or_insert_with(Withheld::default)
            .clone()
    }

    /// Returns who has proven to be the author of the frame's message, if a layer that checks
    /// signatures has found one.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn author(&self) -> Option<&Author> {
        self.extensions().get()
    }
}

#[cfg(all(test, feature = "test-util"))]
mod tests {
    use crate::test_util;
    use crate::wire::Kind;

    #[test]
    fn a_clone_can_be_withheld_for_the_relay_that_waits() {
        let mut frame = test_util::frame(Kind::Plain, "beep");
        assert!(!frame.withhold());
        let (outer, inner) = (frame.watch_withheld(), frame.watch_withheld());
        assert!(!outer.get());
        assert!(frame.clone().withhold());
        assert!(outer.get() && inner.get());
    }
}
