//! The limit to compare with: each role written by hand for its purpose, without a framework.
//!
//! All are on tokio, with the wire, the framing, the header and the socket options of coalescent.
//! None has a slow-peer policy, counters, events, a handshake timeout or liveness checks, which are
//! what a framework adds.

mod mesh;
mod one_hop;
mod outbox;
mod relay;
mod requests;
mod seen;

pub use self::mesh::mesh;
pub use self::one_hop::{Beep, confirmed, pump, receive, send};
pub use self::relay::{Relay, hold, hub};
pub use self::requests::{Ping, Pong, answer, ask, check, envelope};
