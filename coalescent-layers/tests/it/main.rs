//! The integration tests of the layers, one module for each subject.

mod conformance;
mod courier;
mod exchange;
mod leaving;
#[cfg(feature = "mdns")]
mod mdns;
mod mesh;
mod relays;
