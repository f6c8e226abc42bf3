//! Bridges between meshes, over an engine in memory and over a real NATS server.

mod bus;
#[cfg(feature = "nats")]
mod example;
mod loss;
mod memory;
#[cfg(feature = "nats")]
mod nats;
mod support;
