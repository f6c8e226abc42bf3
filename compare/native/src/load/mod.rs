//! Load for hubs and answerers of any make that speak the native wire (hubs also of bytes without
//! frames).
//!
//! It runs in one thread, so that the process that is measured has a processor of its own.

mod framing;
pub mod graph;
mod hub;
mod idle;
mod latency;
mod requests;

pub use self::hub::load;
pub use self::idle::idle;
pub use self::latency::latency;
pub use self::requests::ask;
