//! The integration tests of the core, one module for each subject.

mod bans;
mod broadcast;
mod calls;
mod channels;
mod contacts;
mod derived;
mod dialing;
mod doors;
mod edges;
mod faults;
mod floods;
mod flow;
mod handed;
#[cfg(feature = "test-util")]
mod keys;
mod lifecycle;
mod links;
mod listen;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "tls")]
mod mismatch;
mod native;
mod one_peer;
mod overlap;
mod places;
mod readers;
mod refusals;
mod relay;
mod rest;
#[cfg(feature = "test-util")]
mod schemes;
mod suggestions;
#[cfg(feature = "tls")]
mod tls;
mod unsendable;
mod writer;
