//! Load for any hub and any server of requests that speaks the native wire; for hubs also as bytes
//! without frames.
//!
//! It runs in one thread, so that the measured process has a core of its own.

mod framing;
mod hub;
mod idle;
mod latency;
mod requests;

pub use self::hub::load;
pub use self::idle::idle;
pub use self::latency::latency;
pub use self::requests::ask;
