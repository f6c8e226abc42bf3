//! How a transport secures its connections.

/// How the connections of a [`Transport`](super::Transport) are secured, before the app does
/// anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protection {
    /// Not at all. The app speaks its own TLS over them if it has an
    /// [identity]. Without one, only loopback addresses are allowed, unless
    /// the user [allows plaintext](crate::App::allow_plaintext).
    ///
    /// [identity]: https://docs.rs/coalescent/latest/coalescent/struct.App.html#method.identity
    Plain,
    /// They never leave the machine. They are allowed without an identity; with one, the app speaks
    /// its own TLS, as at loopback addresses. Who is at the other end is not counted by address.
    Local,
    /// They are encrypted, but nothing proves which peer is at the other end, as with a certificate
    /// of a web server. They are allowed without an identity; with one, the app speaks its own TLS
    /// inside.
    Encrypted,
    /// They are encrypted, and both ends have proven a key. The app speaks no TLS of its own: the
    /// [key](super::Connected::key) is the peer's id. Connections without a socket address are
    /// counted and banned by their keys.
    Keys,
}
