use std::error::Error;
use std::fmt;
use std::str::FromStr;

/// The bytes before the key in the `SubjectPublicKeyInfo` of an ed25519 key (RFC 8410).
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// The points of small order, in every encoding, without the sign bit.
///
/// Anybody can sign for one of these: they have no owner, so they are nobody's id.
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
    // The field's prime less one, the prime itself, and one more: -1, 0 and 1.
    let mut last = 4;
    while last < 7 {
        points[last] = [0xff; 32];
        points[last][0] = 0xec + (last as u8 - 4);
        points[last][31] = 0x7f;
        last += 1;
    }
    points
};

/// Names a peer over TLS: its ed25519 public key.
///
/// The text form is 64 lower-case hexadecimal digits, so that equal ids are equal text.
///
/// ```
/// use coalescent_core::identity::PublicKey;
///
/// let text = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
/// let key: PublicKey = text.parse()?;
/// assert_eq!(key.to_string(), text);
/// # Ok::<(), coalescent_core::identity::ParsePublicKeyError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Takes the 32 bytes of an ed25519 public key.
    ///
    /// # Errors
    ///
    /// Refuses the few points of small order, for which everybody can sign. Whether the bytes
    /// are a point of the curve at all shows when a signature is checked.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, ParsePublicKeyError> {
        let mut point = bytes;
        point[31] &= 0x7f;
        if SMALL_ORDER.contains(&point) {
            return Err(ParsePublicKeyError(Problem::SmallOrder));
        }
        Ok(Self(bytes))
    }

    /// Returns the 32 bytes of the key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads exactly the `SubjectPublicKeyInfo` of an ed25519 key, nothing around it.
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
            return Err(ParsePublicKeyError(Problem::Length));
        };
        if pairs.len() != 32 {
            return Err(ParsePublicKeyError(Problem::Length));
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
        _ => Err(ParsePublicKeyError(Problem::Digit)),
    }
}

/// Tells why a text or 32 bytes name no peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsePublicKeyError(Problem);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Problem {
    Length,
    Digit,
    SmallOrder,
}

impl fmt::Display for ParsePublicKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Problem::Length => "a peer's id is 64 hexadecimal digits: copy it whole",
            Problem::Digit => "a peer's id is lower-case hexadecimal digits, 0-9 and a-f, only",
            Problem::SmallOrder => {
                "this key is one that everybody can sign for: ask the peer for its real id"
            }
        })
    }
}

impl Error for ParsePublicKeyError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_form_reads_back(bytes: [u8; 32]) {
            prop_assume!(PublicKey::from_bytes(bytes).is_ok());
            let key = PublicKey(bytes);
            let text = key.to_string();
            prop_assert_eq!(text.len(), 64);
            prop_assert_eq!(text.parse(), Ok(key));
            prop_assert_eq!(format!("{:?}", key), format!("PublicKey({text})"));
        }

        #[test]
        fn any_text_that_parses_is_the_text_form(text in "[0-9a-fA-F]{62,66}|\\PC{0,80}") {
            if let Ok(key) = text.parse::<PublicKey>() {
                prop_assert_eq!(key.to_string(), text);
            }
        }

        #[test]
        fn order_of_keys_is_order_of_their_text(a: [u8; 32], b: [u8; 32]) {
            let (a, b) = (PublicKey(a), PublicKey(b));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }

        #[test]
        fn bytes_at_random_are_no_spki(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            prop_assert_eq!(PublicKey::from_spki(&bytes), None);
        }
    }

    #[test]
    fn refused_text_says_what_is_wrong() {
        let upper = "AB".repeat(32).parse::<PublicKey>().unwrap_err();
        assert!(upper.to_string().contains("lower-case"));
        let short = "ab".repeat(31).parse::<PublicKey>().unwrap_err();
        assert!(short.to_string().contains("64"));
        assert!("é".repeat(32).parse::<PublicKey>().is_err());
        assert!("".parse::<PublicKey>().is_err());
        assert!("+a".repeat(32).parse::<PublicKey>().is_err());
    }

    #[test]
    fn points_that_everybody_can_sign_for_are_refused_with_either_sign() {
        for mut point in SMALL_ORDER {
            assert!(PublicKey::from_bytes(point).is_err());
            point[31] |= 0x80;
            assert!(PublicKey::from_bytes(point).is_err());
            let spki = [&SPKI_PREFIX[..], &point].concat();
            assert_eq!(PublicKey::from_spki(&spki), None);
        }
    }

    #[test]
    fn spki_with_anything_around_it_is_refused() {
        let exact = [&SPKI_PREFIX[..], &[7; 32]].concat();
        assert_eq!(PublicKey::from_spki(&exact), Some(PublicKey([7; 32])));
        assert_eq!(PublicKey::from_spki(&exact[..43]), None);
        assert_eq!(PublicKey::from_spki(&[&exact[..], &[0]].concat()), None);
    }
}
