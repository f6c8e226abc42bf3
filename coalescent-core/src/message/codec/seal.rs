//! Adding headers that depend on the encoded body, such as a signature.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::error::{CodecError, ErrorKind};
use super::{Codec, Format, json, transcode};
use crate::message::Message;

/// Adds headers to every message that a codec encodes.
///
/// A seal may depend on the body as it will stand in the payload, for example sign it.
///
/// ```
/// use std::sync::Arc;
///
/// use coalescent::Message;
/// use coalescent::codec::{Codec, CodecError, Seal};
///
/// /// Adds the length of the body.
/// #[derive(Debug)]
/// struct Length;
///
/// impl Seal for Length {
///     fn seal(&self, message: Message) -> Result<Message, CodecError> {
///         let length = message.body_bytes().len();
///         Ok(message.with_header("length", &length))
///     }
/// }
///
/// let codec = Codec::json().sealed_by(Arc::new(Length));
/// let payload = codec.encode(&Message::new("chat", "hi"))?;
/// let message = codec.decode(&payload)?;
/// assert_eq!(message.header::<usize>("length").transpose()?, Some(r#""hi""#.len()));
/// # Ok::<(), CodecError>(())
/// ```
pub trait Seal: fmt::Debug + Send + Sync {
    /// Returns the message with its headers added. Its [format](Message::format) and
    /// [body](Message::body_bytes) are those that the payload will have; leave both as they are.
    ///
    /// # Errors
    ///
    /// The message is then not encoded.
    fn seal(&self, message: Message) -> Result<Message, CodecError>;
}

impl Codec {
    /// Seals every message that this codec encodes. Decoding stays as it is.
    #[must_use]
    pub fn sealed_by(mut self, seal: Arc<dyn Seal>) -> Self {
        self.seal = Some(seal);
        self
    }

    /// Returns a message as the codec's seal leaves it, its body in the encoding that the payload
    /// will have. Without a seal only the latter is done.
    ///
    /// # Errors
    ///
    /// Fails as [`Codec::encode`] does, and as the seal does.
    pub fn seal(&self, message: Message) -> Result<Message, CodecError> {
        self.check(&message)?;
        let settled = self.settle(message)?;
        match &self.seal {
            Some(seal) => seal.seal(settled),
            None => Ok(settled),
        }
    }

    /// Encodes a message that was checked.
    #[cold]
    pub(super) fn encode_sealed(&self, message: Message) -> Result<Bytes, CodecError> {
        let sealed = self.seal(message)?;
        sealed.check()?;
        self.encode_unsealed(sealed)
    }

    /// Gives a message the body that [`Codec::encode`] would write.
    fn settle(&self, message: Message) -> Result<Message, CodecError> {
        let body = match (self.format, message.format()) {
            (Format::MessagePack, Format::MessagePack) => return Ok(message),
            (Format::MessagePack, Format::Json) => {
                transcode::json_to_msgpack(ErrorKind::Body, message.body_bytes())?.into()
            }
            (Format::Json, _) => json::body(self, &message)?,
        };
        message.with_body_bytes(self.format, body)
    }
}
