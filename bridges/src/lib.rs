#![doc = include_str!("../README.md")]

mod bridge;
mod crossing;
mod door;
pub mod engine;
mod held;
#[cfg(feature = "nats")]
pub mod nats;
mod run;
mod shore;
#[cfg(feature = "topics")]
mod topic;
mod turns;

pub use bridge::{Bridge, HELD, Stats};
pub use crossing::{ATTEMPTS, CONFIRM, RETURN};
pub use engine::Engine;
pub use held::{HELD_COST, REMEMBERED, REMEMBERED_MAX};
#[cfg(feature = "nats")]
pub use nats::Nats;
pub use turns::{BRIDGES_MAX, GROUP_MAX, STANDBY};
