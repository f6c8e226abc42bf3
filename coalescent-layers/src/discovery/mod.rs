//! Peers that find each other.

pub mod book;
#[cfg(feature = "mdns")]
pub mod mdns;
