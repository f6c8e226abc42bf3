//! Peers that find each other.

pub mod book;
pub mod exchange;
#[cfg(feature = "mdns")]
pub mod mdns;
