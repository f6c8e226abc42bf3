//! iroh-gossip, in the roles of the comparison.
//!
//! | role | what it does |
//! |---|---|
//! | `hub` | forwards what each peer publishes to all others |
//! | `load` | publishes through a hub as fast as it forwards, and counts what subscribers receive |
//! | `latency` | times messages from one publisher through a hub to one subscriber |
//! | `idle` | holds many connections to a hub, on which nothing is sent |
//! | `mesh` | sends messages through nodes that connect each other as iroh-gossip does |
//! | `swarm` | sends a burst through as many nodes as there is memory for, without their sockets |
//!
//! [`node`] says how iroh is configured, and why. iroh-gossip drops messages that a node has
//! already seen, and QUIC is always encrypted, so `--relay` and `--tls` make no difference to it.

mod memory;
mod mesh;
mod node;
mod star;

use std::process::ExitCode;

use common::program::{self, Misuse};
use common::star::{idle, latency, load};
use tokio::runtime::Runtime;
use tokio::task::spawn_blocking;

use crate::star::Iroh;

fn main() -> ExitCode {
    program::run(Runtime::new(), |options| async move {
        match &*options.role {
            "hub" => star::hub().await,
            "load" => load::<Iroh>(&options).await,
            "latency" => latency::<Iroh>(&options).await,
            "idle" => idle::<Iroh>(&options).await,
            "mesh" => mesh::run(&options).await,
            // It has a clock of its own.
            "swarm" => spawn_blocking(move || memory::run(&options)).await?,
            other => Err(Misuse::role(
                other,
                "hub, load, latency, idle, mesh and swarm",
            )),
        }
    })
}
