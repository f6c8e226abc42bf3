//! Gossipsub of rust-libp2p, in the roles of the comparison.
//!
//! | role | what it does |
//! |---|---|
//! | `hub` | forwards what each peer publishes to all others |
//! | `load` | publishes through a hub as fast as it forwards, and counts what subscribers hear |
//! | `latency` | times messages from one publisher through a hub to one subscriber |
//! | `idle` | holds many connected and subscribed peers that publish nothing |
//! | `mesh` | floods messages through a random graph of nodes, each with its own socket |
//!
//! How libp2p is configured, and why, is said in [`node`]. Gossipsub leaves out what a node has
//! seen before, so `--relay` makes no difference to it; the option is taken so that all hubs can be
//! started alike.

mod flow;
mod mesh;
mod node;
mod options;
mod report;
mod star;

use std::process::ExitCode;

use options::Options;
use report::Failed;

fn main() -> ExitCode {
    let options = match Options::from_env() {
        Ok(options) => options,
        Err(wrong) => return report::refuse(&wrong),
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return report::exit(Err(error.into())),
    };
    let result = runtime.block_on(run(&options));
    // What still runs are nodes that nobody waits for.
    runtime.shutdown_background();
    report::exit(result)
}

async fn run(options: &Options) -> Result<(), Failed> {
    match options.role.as_str() {
        "hub" => star::hub(options).await,
        "load" => star::load(options).await,
        "latency" => star::latency(options).await,
        "idle" => star::idle(options).await,
        "mesh" => mesh::run(options).await,
        _ => unreachable!("the options refuse other roles"),
    }
}
