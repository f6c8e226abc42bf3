//! The integration tests of the layers, one module for each subject.

mod conformance;
mod courier;
mod leaving;
mod mesh;
mod relays;
#[cfg(feature = "tls")]
mod signed;
