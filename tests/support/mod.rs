//! What the tests of whole processes share: spawning, waiting for a line, peers of the Node original.

// Each test file compiles its own copy and uses a part of it.
#![allow(dead_code, unused_imports)]

mod browser;
mod line;
mod npm;
mod process;

pub(crate) use browser::Browser;
pub(crate) use line::Line;
pub(crate) use npm::{NpmPeer, npm_ready};
pub(crate) use process::{DEADLINE, Lines, Process, example};
