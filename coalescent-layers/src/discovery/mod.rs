//! Finding peers.

#[cfg(feature = "mdns")]
pub mod mdns;
