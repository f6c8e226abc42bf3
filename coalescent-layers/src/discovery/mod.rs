//! Peers that find each other.

pub mod exchange;
