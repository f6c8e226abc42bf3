//! Peers that find each other.

pub mod book;
pub mod exchange;
