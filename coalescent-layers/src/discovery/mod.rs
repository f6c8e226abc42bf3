//! Peers that find each other.

#[cfg(feature = "mdns")]
pub mod mdns;
