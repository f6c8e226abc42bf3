//! The peer, the mesh and the way of a frame: the core of coalescent.

mod address;
// What drives these is not here yet.
#[allow(dead_code)]
mod admission;
#[allow(dead_code)]
mod connection;
#[allow(dead_code)]
mod dialer;

pub use self::address::{Address, AddressError};
