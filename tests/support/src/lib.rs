//! What the integration tests of all crates share: waits, peers made of bytes, small layers, and
//! the processes that a test starts.

#![allow(missing_docs, missing_debug_implementations)]

mod browser;
mod by_hand;
mod cat;
pub mod internet;
mod layers;
mod line;
pub mod memory;
pub mod mesh;
mod npm;
pub mod pair;
mod pipe;
mod process;
pub mod proxy;
mod wait;
mod web;

pub use browser::Browser;
pub use by_hand::{ByHand, hello, join, join_as, join_wire, ok, on_the_wire, packet, pour};
pub use cat::{Cat, Stats};
pub use layers::{Handle, RelayLayer, handle};
pub use line::Line;
pub use npm::{NpmPeer, npm_ready};
pub use process::{Lines, Process, example};
pub use wait::{DEADLINE, soon, until};
pub use web::{WEBSOCKET, Web, binary_message};
