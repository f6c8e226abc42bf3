//! Gossipsub of rust-libp2p, in the roles of the comparison.
//!
//! | role | what it does |
//! |---|---|
//! | `hub` | forwards what each peer publishes to all others |
//! | `load` | publishes through a hub as fast as it forwards, and counts what subscribers receive |
//! | `latency` | times messages from one publisher through a hub to one subscriber |
//! | `idle` | holds many connected and subscribed peers that publish nothing |
//! | `mesh` | floods messages through a random graph of nodes, each with its own socket |
//!
//! [`node`] says how libp2p is configured, and why. Gossipsub drops messages that a node has
//! already seen, so `--relay` makes no difference to it.

mod mesh;
mod node;
mod star;

use std::process::ExitCode;

use common::program::{self, Misuse};
use common::star::{idle, latency, load};
use tokio::runtime::Runtime;

use crate::star::Gossipsub;

fn main() -> ExitCode {
    program::run(Runtime::new(), |options| async move {
        match &*options.role {
            "hub" => star::hub(&options).await,
            "load" => load::<Gossipsub>(&options).await,
            "latency" => latency::<Gossipsub>(&options).await,
            "idle" => idle::<Gossipsub>(&options).await,
            "mesh" => mesh::run(&options).await,
            other => Err(Misuse::role(other, "hub, load, latency, idle and mesh")),
        }
    })
}
