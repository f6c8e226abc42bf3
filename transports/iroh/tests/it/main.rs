//! Whole nodes over iroh, on loopback.

mod bounds;
mod conformance;
mod dial;
mod examples;
mod hub;
mod limits;
mod moving;
mod nat;
mod network;
mod quiet;
mod relay;
mod support;
mod volume;
