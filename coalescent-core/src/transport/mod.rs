//! Where sockets come from.

#[cfg(feature = "tls")]
pub mod tls;
