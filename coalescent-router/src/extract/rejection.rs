//! The errors of extractors.

use std::any::type_name;
use std::error::Error;
use std::fmt;

use coalescent_core::codec::CodecError;
use coalescent_core::event::Escaped;

const NO_MESSAGE: &str = "the frame has no message: put a courier outside of the router, which parses \
                          messages";

/// The error if a frame has no message because no courier has parsed it.
#[derive(Clone, Debug)]
pub struct MessageRejection(());

impl MessageRejection {
    pub(crate) fn new() -> Self {
        Self(())
    }
}

impl fmt::Display for MessageRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NO_MESSAGE)
    }
}

impl Error for MessageRejection {}

/// The error if the body of a message is not of the type that a handler takes.
#[derive(Clone, Debug)]
pub struct BodyRejection(Option<BodyError>);

#[derive(Clone, Debug)]
struct BodyError {
    kind: Box<str>,
    wanted: &'static str,
    source: CodecError,
}

impl BodyRejection {
    pub(crate) fn no_message() -> Self {
        Self(None)
    }

    pub(crate) fn body<T>(kind: &str, source: CodecError) -> Self {
        Self(Some(BodyError {
            kind: Escaped(kind).to_string().into(),
            wanted: type_name::<T>(),
            source,
        }))
    }

    /// Returns whether there was no message because no courier has parsed the frame.
    #[must_use]
    pub fn is_no_message(&self) -> bool {
        self.0.is_none()
    }

    /// Returns whether the body was of another type.
    #[must_use]
    pub fn is_body(&self) -> bool {
        self.0.is_some()
    }
}

impl fmt::Display for BodyRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str(NO_MESSAGE),
            Some(BodyError { kind, wanted, .. }) => {
                write!(f, "the body of a message \"{kind}\" is no `{wanted}`")
            }
        }
    }
}

impl Error for BodyRejection {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.as_ref().map(|error| &error.source as &dyn Error)
    }
}

/// The error if nobody has proven to be the author of a message.
#[cfg(feature = "tls")]
#[derive(Clone, Debug)]
pub struct AuthorRejection(());

#[cfg(feature = "tls")]
impl AuthorRejection {
    pub(crate) fn new() -> Self {
        Self(())
    }
}

#[cfg(feature = "tls")]
impl fmt::Display for AuthorRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the message is not signed, or no layer has checked its signature: add `Signed` inside \
             the courier and outside the router, or ask for an `Option<Author>`",
        )
    }
}

#[cfg(feature = "tls")]
impl Error for AuthorRejection {}

/// The error if there is no mesh: the frame's connection does not belong to an app, or the mesh has
/// ended.
#[derive(Clone, Debug)]
pub struct MeshRejection(());

impl MeshRejection {
    pub(crate) fn new() -> Self {
        Self(())
    }
}

impl fmt::Display for MeshRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "there is no mesh: this connection does not belong to an app, or the mesh has ended; ask \
             for `Peers` or for an `Option<Mesh>` instead",
        )
    }
}

impl Error for MeshRejection {}

/// The error if a message belongs to no topic.
#[derive(Clone, Debug)]
pub struct TopicRejection(());

impl TopicRejection {
    pub(crate) fn new() -> Self {
        Self(())
    }
}

impl fmt::Display for TopicRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the message belongs to no topic: bind the handler to one with `Router::topic`, or ask for \
             an `Option<Topic>`",
        )
    }
}

impl Error for TopicRejection {}

/// The error if there is no value of the type that a handler takes.
#[derive(Clone, Debug)]
pub struct ValueRejection {
    wanted: &'static str,
    place: &'static str,
}

impl ValueRejection {
    pub(crate) fn extension<T>() -> Self {
        Self {
            wanted: type_name::<T>(),
            place: "attached to the frame, its peer or the mesh: attach one in a layer outside of the \
                    router, with `Peer::set` or with `Mesh::set`",
        }
    }

    pub(crate) fn shared<T>() -> Self {
        Self {
            wanted: type_name::<T>(),
            place: "shared on the mesh: share one with `Mesh::set`",
        }
    }
}

impl fmt::Display for ValueRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no `{}` is {}", self.wanted, self.place)
    }
}

impl Error for ValueRejection {}
