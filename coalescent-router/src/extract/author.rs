use std::convert::Infallible;

use coalescent_core::Frame;
use coalescent_core::identity::Author;

use super::rejection::AuthorRejection;
use super::{FromFrameParts, OptionalFromFrameParts};

/// Extracts the author that has signed the message, which relays cannot change.
impl<S: Sync> FromFrameParts<S> for Author {
    type Rejection = AuthorRejection;

    const AT_ONCE: bool = true;

    async fn from_frame_parts(frame: &mut Frame, _state: &S) -> Result<Self, AuthorRejection> {
        frame.author().copied().ok_or_else(AuthorRejection::new)
    }
}

impl<S: Sync> OptionalFromFrameParts<S> for Author {
    type Rejection = Infallible;

    const AT_ONCE: bool = true;

    async fn from_frame_parts(frame: &mut Frame, _state: &S) -> Result<Option<Self>, Infallible> {
        Ok(frame.author().copied())
    }
}

#[cfg(test)]
mod tests {
    use coalescent_core::identity::Identity;
    use coalescent_core::test_util;
    use coalescent_core::wire::Kind;

    use super::*;
    use crate::FromFrameParts;

    #[tokio::test]
    async fn the_author_is_what_a_layer_has_attached() {
        let mut frame = test_util::frame(Kind::Data, "");
        let optional = <Option<Author> as FromFrameParts<()>>::from_frame_parts;
        let required = <Author as FromFrameParts<()>>::from_frame_parts;
        assert_eq!(optional(&mut frame, &()).await.unwrap(), None);
        let rejection = required(&mut frame, &()).await.unwrap_err();
        assert!(rejection.to_string().contains("not signed"), "{rejection}");

        let author = Author::new(Identity::generate().id(), 1);
        frame.extensions_mut().insert(author);
        assert_eq!(optional(&mut frame, &()).await.unwrap(), Some(author));
        assert_eq!(required(&mut frame, &()).await.unwrap(), author);
    }
}
