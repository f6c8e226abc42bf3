//! The integration tests of the router, one module for each subject.

mod conformance;
mod diagnostics;
mod handlers;
#[cfg(feature = "metrics")]
mod metrics;
mod readiness;
mod routing;
