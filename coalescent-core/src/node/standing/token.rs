//! Tokens: PINGs that show whether two connections lead to the same node.

use crate::transport::Direction;

/// The bytes of a PING that asks whether two connections lead to one node.
pub(crate) type Token = [u8; 8];

/// The first bytes of each token.
const MAGIC: [u8; 2] = [0xc0, 0x2e];

/// Creates a token that is sent on a connection of the direction `new`, and is to come back on one
/// of the direction `old`.
pub(super) fn token(new: Direction, old: Direction) -> Token {
    let mut token: Token = rand::random();
    let dialled = |direction| u8::from(direction == Direction::Outbound);
    token[..2].copy_from_slice(&MAGIC);
    token[2] = dialled(new) | dialled(old) << 1;
    token
}

/// Returns the bytes of a PING as a token, if they may be one.
pub(crate) fn as_token(ping: &[u8]) -> Option<Token> {
    ping.starts_with(&MAGIC).then(|| ping.try_into().ok())?
}

/// Returns whether a token of the other node came on a connection of the direction that it names.
pub(super) fn came_right(token: Token, by: Direction) -> bool {
    (token[2] & 1 != 0) == (by == Direction::Inbound)
}

/// Returns whether a token of the other node asks to be sent back on a connection of this
/// direction.
pub(super) fn goes_back(token: Token, by: Direction) -> bool {
    (token[2] & 2 != 0) == (by == Direction::Inbound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_accepted_only_on_the_connections_that_it_names() {
        use Direction::{Inbound, Outbound};
        // A connection that one node dialled is inbound to the other.
        let other = |direction| match direction {
            Inbound => Outbound,
            Outbound => Inbound,
        };
        for new in [Inbound, Outbound] {
            for old in [Inbound, Outbound] {
                let token = token(new, old);
                assert_eq!(as_token(&token), Some(token));
                assert!(came_right(token, other(new)) && !came_right(token, new));
                assert!(goes_back(token, other(old)) && !goes_back(token, old));
            }
        }
        assert_eq!(as_token(b"12345678"), None);
        assert_eq!(as_token(&MAGIC), None);
    }
}
