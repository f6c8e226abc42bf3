//! The peer, the mesh and the way of a frame: the core of coalescent.

pub mod codec;
mod message;
pub mod wire;

pub use message::Message;
