//! One peer's connection.

mod liveness;
mod slow;
