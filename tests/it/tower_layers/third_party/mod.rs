//! Middleware of other crates: tower-resilience, failsafe and tower-fallback.

mod answers;
mod breakers;
mod errors;
mod limits;
mod misfits;
mod peers;
mod relays;
mod rules;
mod support;
