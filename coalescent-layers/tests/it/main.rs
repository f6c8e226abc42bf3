//! The integration tests of the layers, one module for each subject.

mod book;
mod conformance;
mod courier;
mod discovery;
mod exchange;
mod leaving;
#[cfg(feature = "mdns")]
mod mdns;
mod mesh;
mod relays;
mod schemes;
#[cfg(feature = "tls")]
mod signed;
mod streams;
mod validate;
