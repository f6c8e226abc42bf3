//! The roles on the native wire, written by hand as a limit to compare with, and the load that
//! drives a hub of any make.
//!
//! - [`hand`]: the roles without a framework, as fast as they can be written in a few hundred
//!   lines.
//! - [`load`]: publishers, subscribers and requesters that know only the wire.
//! - [`lines`]: the pipe that feeds a role that sends from stdin.
//! - [`wire`], [`socket`]: the frames and the socket options of coalescent.

pub mod hand;
pub mod lines;
pub mod load;
pub mod socket;
pub mod wire;
