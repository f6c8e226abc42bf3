//! The bytes that a signature covers, and the headers that carry it.
//!
//! ```text
//! "coalescent/sig/1"
//! u16   length of the network name      integers are big-endian
//! ...   the network name
//! u16   length of the message's type
//! ...   the type
//! u64   time of signing, in milliseconds since 1970
//! ...   the body, exactly as it stands in the payload
//! ```

use std::fmt;

use coalescent_core::Message;
use coalescent_core::codec::Format;
use coalescent_core::identity::{PublicKey, SIGNATURE_LEN};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What the signed bytes begin with, so that they cannot be taken for anything else that the key
/// signs.
const CONTEXT: &[u8] = b"coalescent/sig/1";

/// The header that holds the author's public key.
pub const AUTHOR: &str = "author";

/// The header that holds the time of signing, in milliseconds since 1970.
pub const AT: &str = "at";

/// The header that holds the signature.
pub const SIG: &str = "sig";

/// A network name or a type has more bytes than the length field can say: 65,535.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Returns the bytes to sign.
pub(super) fn signed(network: &str, message: &Message, at: u64) -> Result<Vec<u8>, TooLong> {
    let body = body(message);
    let kind = message.kind_bytes();
    let mut out =
        Vec::with_capacity(CONTEXT.len() + network.len() + kind.len() + body.len() + 2 + 2 + 8);
    out.extend_from_slice(CONTEXT);
    for text in [network.as_bytes(), kind] {
        let len = u16::try_from(text.len()).map_err(|_| TooLong)?;
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(text);
    }
    out.extend_from_slice(&at.to_be_bytes());
    out.extend_from_slice(body);
    Ok(out)
}

/// Returns the body as it counts: JSON without the white space around it, a missing one as nothing.
pub(super) fn body(message: &Message) -> &[u8] {
    match message.format() {
        _ if !message.has_body() => &[],
        Format::Json => message.body_bytes().trim_ascii(),
        _ => message.body_bytes(),
    }
}

/// The reserved headers of a signed message. Nothing of it is proven yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signature {
    pub(super) author: PublicKey,
    pub(super) at: u64,
    pub(super) sig: [u8; SIGNATURE_LEN],
}

/// There is a signature header, but it, the author or the time is missing or not well-formed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Signature {
    /// Reads the headers of a message; `None` if it has no signature.
    pub(super) fn of(message: &Message) -> Result<Option<Self>, Malformed> {
        let Some(sig) = header(message, SIG) else {
            return Ok(None);
        };
        let author = header(message, AUTHOR).ok_or(Malformed)??;
        let at = message.header(AT).ok_or(Malformed)?;
        Ok(Some(Self {
            author: PublicKey::from_bytes(author).map_err(|_| Malformed)?,
            at: at.map_err(|_| Malformed)?,
            sig: sig?,
        }))
    }

    /// Adds the headers to a message.
    pub(super) fn add_to(&self, message: Message) -> Message {
        let (author, sig) = (self.author.as_bytes(), &self.sig);
        match message.format() {
            Format::Json => message
                .with_header(AUTHOR, &hex(author))
                .with_header(AT, &self.at)
                .with_header(SIG, &hex(sig)),
            _ => message
                .with_header(AUTHOR, &Binary(author))
                .with_header(AT, &self.at)
                .with_header(SIG, &Binary(sig)),
        }
    }
}

/// Reads bytes as the format of the message writes them.
fn header<const N: usize>(message: &Message, key: &str) -> Option<Result<[u8; N], Malformed>> {
    let bytes = match message.format() {
        Format::Json => message.header::<Hex<N>>(key)?.map(|Hex(bytes)| bytes),
        _ => message.header::<Bin<N>>(key)?.map(|Bin(bytes)| bytes),
    };
    Some(bytes.map_err(|_| Malformed))
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

/// Bytes that are written as one binary value.
struct Binary<'a>(&'a [u8]);

impl Serialize for Binary<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// Exactly `N` bytes, read from binary.
struct Bin<const N: usize>([u8; N]);

impl<'de, const N: usize> Deserialize<'de> for Bin<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes<const N: usize>;

        impl<const N: usize> Visitor<'_> for Bytes<N> {
            type Value = [u8; N];

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{N} bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<[u8; N], E> {
                bytes.try_into().map_err(|_| wrong_length(bytes, &self))
            }
        }

        fn wrong_length<E: Error>(bytes: &[u8], expected: &dyn serde::de::Expected) -> E {
            E::invalid_length(bytes.len(), expected)
        }

        deserializer.deserialize_bytes(Bytes).map(Self)
    }
}

/// Exactly `N` bytes, read from twice as many hexadecimal digits of either case.
struct Hex<const N: usize>([u8; N]);

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits<const N: usize>;

        impl<const N: usize> Visitor<'_> for Digits<N> {
            type Value = [u8; N];

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{} hexadecimal digits", N * 2)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<[u8; N], E> {
                let (pairs, rest) = text.as_bytes().as_chunks::<2>();
                let mut bytes = [0; N];
                if pairs.len() != N || !rest.is_empty() {
                    return Err(E::invalid_length(text.len(), &self));
                }
                for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
                    let digit = |digit: u8| char::from(digit).to_digit(16);
                    let (Some(high), Some(low)) = (digit(*high), digit(*low)) else {
                        return Err(E::invalid_value(serde::de::Unexpected::Str(text), &self));
                    };
                    // Two digits of 4 bits.
                    *byte = (high << 4 | low) as u8;
                }
                Ok(bytes)
            }
        }

        deserializer.deserialize_str(Digits).map(Self)
    }
}

#[cfg(test)]
#[path = "bytes_tests.rs"]
mod tests;
