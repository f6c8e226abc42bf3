//! The id of a running node.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

/// The id of one running node, unique within a mesh.
///
/// Chosen at random when the node starts. Ordered by its bytes, and displayed as 32 lower-case hex
/// digits.
///
/// ```
/// use coalescent::NodeId;
///
/// let id = NodeId::random();
/// assert_eq!(id.to_string().parse(), Ok(id));
/// assert_eq!(NodeId::from_bytes([7; 16]).to_string(), "07".repeat(16));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 16]);

impl NodeId {
    /// Creates an id from 16 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Creates a random id.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// Returns the bytes of the id.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

impl FromStr for NodeId {
    type Err = ParseNodeIdError;

    fn from_str(text: &str) -> Result<Self, ParseNodeIdError> {
        // from_str_radix would accept a sign.
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ParseNodeIdError(()));
        }
        let number = u128::from_str_radix(text, 16).map_err(|_| ParseNodeIdError(()))?;
        Ok(Self(number.to_be_bytes()))
    }
}

/// The error of parsing text that is not a [`NodeId`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseNodeIdError(());

impl fmt::Display for ParseNodeIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a node id is 32 hex digits")
    }
}

impl Error for ParseNodeIdError {}
