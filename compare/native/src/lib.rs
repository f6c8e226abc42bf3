//! What is written by hand, to have something to compare with: the limits of the native wire, and
//! the load that drives a hub, whoever wrote it.
//!
//! - [`hand`]: the roles without a framework, as fast as they can be written in a few hundred
//!   lines.
//! - [`load`]: publishers, subscribers and requesters that know only the wire.
//! - [`lines`]: what is fed to a role that sends from stdin.
//! - [`wire`], [`socket`]: the frames and the socket options that both sides share, which are those
//!   of coalescent.
//! - [`options`], [`report`]: the command line and the output of every role.

pub mod hand;
pub mod lines;
pub mod load;
pub mod options;
pub mod report;
pub mod socket;
pub mod wire;
