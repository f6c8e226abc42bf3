//! Who has said a frame's message.

use super::Frame;
use crate::transport::identity::Author;

impl Frame {
    /// Returns who has proven to be the author of the frame's message, if a layer that checks
    /// signatures has found one.
    #[must_use]
    pub fn author(&self) -> Option<&Author> {
        self.extensions().get()
    }
}
