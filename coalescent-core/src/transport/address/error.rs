//! What is wrong with a text that is no address.

use std::fmt;

/// The maximum number of characters of an invalid address that an error quotes.
const SHOWN: usize = 64;

/// Truncates text that may come from a peer; [`AddressError`] escapes it.
pub(super) fn shown(text: &str) -> String {
    let more = text.chars().nth(SHOWN).map(|_| '…');
    text.chars().take(SHOWN).chain(more).collect()
}

/// The error of parsing an invalid [`Address`](super::Address). Its text says what to write
/// instead.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AddressError {
    pub(super) text: String,
    pub(super) problem: AddressProblem,
}

impl AddressError {
    /// Returns whether the port is missing.
    pub fn is_missing_port(&self) -> bool {
        self.problem == AddressProblem::MissingPort
    }

    /// Returns whether the part before `@`, or the key after a scheme, is no identity.
    pub fn is_id(&self) -> bool {
        matches!(self.problem, AddressProblem::Id | AddressProblem::NoOwner)
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = match self.problem {
            AddressProblem::Id => "the identity before @ is not 64 hexadecimal digits",
            AddressProblem::NoOwner => {
                "everybody can sign for this identity; ask the peer for its real one"
            }
            AddressProblem::MissingPort => "missing port; write HOST:PORT",
            AddressProblem::Port => "the port is not a number from 1 to 65535",
            AddressProblem::PortZero => {
                "nobody listens on port 0; write the port that the peer listens on"
            }
            AddressProblem::MissingHost => "missing host; write HOST:PORT",
            AddressProblem::Host => {
                "not a host name; write letters, digits, - and . (xn--… for others)"
            }
            AddressProblem::Ipv4 => "not an IPv4 address; write four numbers from 0 to 255",
            AddressProblem::Ipv6 => "not an IPv6 address between the brackets",
            AddressProblem::Unbracketed => "put an IPv6 address in brackets: [ADDRESS]:PORT",
            AddressProblem::Bracket => "missing ] after the IPv6 address; write [ADDRESS]:PORT",
            AddressProblem::AfterBracket => {
                "only :PORT may follow the brackets; write [ADDRESS]:PORT"
            }
            AddressProblem::AfterPort => "nothing may follow the port; write HOST:PORT",
            AddressProblem::Slashes => "two slashes follow this scheme; write SCHEME://HOST:PORT",
            AddressProblem::UnixPath => "a path follows this scheme; write unix:/PATH",
            AddressProblem::Key => {
                "a key of 64 hexadecimal digits follows this scheme; write iroh:ID"
            }
            AddressProblem::Path => {
                "the path is too long, or holds what does not belong into an address"
            }
        };
        write!(f, "{:?}: {problem}", self.text)
    }
}

impl std::error::Error for AddressError {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddressProblem {
    Id,
    NoOwner,
    MissingPort,
    Port,
    PortZero,
    MissingHost,
    Host,
    Ipv4,
    Ipv6,
    Unbracketed,
    Bracket,
    AfterBracket,
    AfterPort,
    Slashes,
    UnixPath,
    Key,
    Path,
}
