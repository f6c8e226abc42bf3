//! The integration tests of the core, one module for each subject.

mod broadcast;
mod calls;
mod dialing;
mod edges;
mod faults;
mod floods;
mod lifecycle;
mod links;
mod listen;
#[cfg(feature = "metrics")]
mod metrics;
mod native;
mod places;
mod readers;
mod relay;
mod rest;
mod suggestions;
#[cfg(feature = "tls")]
mod tls;
mod writer;
