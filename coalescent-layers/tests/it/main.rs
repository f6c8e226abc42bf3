//! The integration tests of the layers, one module for each subject.

mod book;
mod conformance;
mod courier;
mod diagnostics;
mod discovery;
mod exchange;
mod leaving;
#[cfg(feature = "mdns")]
mod mdns;
mod mesh;
#[cfg(feature = "overlay")]
mod overlay;
mod relays;
mod schemes;
#[cfg(feature = "tls")]
mod signed;
mod streams;
#[cfg(feature = "overlay")]
mod topics;
mod unregistered;
mod validate;
