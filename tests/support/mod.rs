//! What the tests of whole nodes share: spawning, waiting for a line, peers of the Node original.

// Each test file compiles its own copy and uses a part of it.
#![allow(dead_code, unused_imports)]

mod browser;
mod cat;
mod line;
pub(crate) mod mesh;
mod npm;
mod process;
mod web;

pub(crate) use browser::Browser;
pub(crate) use cat::{Cat, Stats};
pub(crate) use line::Line;
pub(crate) use npm::{NpmPeer, npm_ready};
pub(crate) use process::{DEADLINE, Lines, Process, example};
pub(crate) use web::{WEBSOCKET, Web, text_message};
