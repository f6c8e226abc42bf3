//! The peer, the mesh and the way of a frame: the core of coalescent.

#[cfg(feature = "tls")]
pub mod identity;
pub mod transport;
