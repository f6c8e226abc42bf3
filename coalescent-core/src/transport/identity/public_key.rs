use std::error::Error;
use std::fmt;
use std::str::FromStr;

#[cfg(feature = "tls")]
/// The bytes that precede the key in the `SubjectPublicKeyInfo` of an ed25519 key (RFC 8410).
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// The points of small order in all their encodings, without the sign bit.
///
/// Anybody can sign for these points. They have no owner, so they cannot be an id.
const SMALL_ORDER: [[u8; 32]; 7] = {
    let mut points = [[0; 32]; 7];
    points[1][0] = 1;
    points[2] = [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ];
    points[3] = [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ];
    // The field's prime minus one, the prime, and the prime plus one, which encode -1, 0 and 1.
    let mut last = 4;
    while last < 7 {
        points[last] = [0xff; 32];
        points[last][0] = 0xec + (last as u8 - 4);
        points[last][31] = 0x7f;
        last += 1;
    }
    points
};

/// The id of a peer over TLS: its ed25519 public key.
///
/// The text form is 64 lower-case hexadecimal digits, so that equal ids have equal texts.
///
/// ```
/// use coalescent::identity::PublicKey;
///
/// let text = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
/// let key: PublicKey = text.parse()?;
/// assert_eq!(key.to_string(), text);
/// # Ok::<(), coalescent::identity::ParsePublicKeyError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Creates a key from the 32 bytes of an ed25519 public key.
    ///
    /// # Errors
    ///
    /// Rejects the few points of small order, for which anybody can sign. Does not check whether
    /// the bytes are a point on the curve; checking a signature does.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, ParsePublicKeyError> {
        let mut point = bytes;
        point[31] &= 0x7f;
        if SMALL_ORDER.contains(&point) {
            return Err(ParsePublicKeyError(KeyProblem::SmallOrder));
        }
        Ok(Self(bytes))
    }

    /// Returns the 32 bytes of the key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns a key of equal bytes, for tests.
    #[cfg(test)]
    pub(crate) fn repeated(byte: u8) -> Self {
        Self::from_bytes([byte; 32]).expect("a key that somebody can own")
    }

    #[cfg(feature = "tls")]
    /// Parses exactly the `SubjectPublicKeyInfo` of an ed25519 key, without extra bytes.
    pub(crate) fn from_spki(spki: &[u8]) -> Option<Self> {
        let key = spki.strip_prefix(&SPKI_PREFIX)?;
        Self::from_bytes(key.try_into().ok()?).ok()
    }
}

impl AsRef<[u8]> for PublicKey {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(64);
        super::push_hex(&mut text, &self.0);
        f.pad(&text)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = ParsePublicKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
            return Err(ParsePublicKeyError(KeyProblem::Length));
        };
        if pairs.len() != 32 {
            return Err(ParsePublicKeyError(KeyProblem::Length));
        }
        let mut bytes = [0; 32];
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = (digit(*high)? << 4) | digit(*low)?;
        }
        Self::from_bytes(bytes)
    }
}

fn digit(character: u8) -> Result<u8, ParsePublicKeyError> {
    match character {
        b'0'..=b'9' => Ok(character - b'0'),
        b'a'..=b'f' => Ok(character - b'a' + 10),
        _ => Err(ParsePublicKeyError(KeyProblem::Digit)),
    }
}

/// The error of parsing text or bytes that are not a valid public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsePublicKeyError(KeyProblem);

#[derive(Debug, Clone, PartialEq, Eq)]
enum KeyProblem {
    Length,
    Digit,
    SmallOrder,
}

impl fmt::Display for ParsePublicKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            KeyProblem::Length => "a peer's id is 64 hexadecimal digits: copy it whole",
            KeyProblem::Digit => "a peer's id is lower-case hexadecimal digits, 0-9 and a-f, only",
            KeyProblem::SmallOrder => {
                "this key is one that everybody can sign for: ask the peer for its real id"
            }
        })
    }
}

impl Error for ParsePublicKeyError {}

#[cfg(all(test, feature = "tls"))]
#[path = "public_key_tests.rs"]
mod tests;
