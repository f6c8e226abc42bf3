//! The integration tests of the layers, one module for each subject.

mod conformance;
mod courier;
mod exchange;
mod leaving;
mod mesh;
mod relays;
