//! The load, which knows only the wire: `load ROLE [OPTIONS]`.

use std::process::ExitCode;

use common::program::{self, Misuse};
use native::{hand, load};
use tokio::runtime::Builder;

fn main() -> ExitCode {
    // One thread, so that the measured process has a core of its own.
    let runtime = Builder::new_current_thread().enable_all().build();
    program::run(runtime, |options| async move {
        match &*options.role {
            "load" => load::load(&options).await,
            "latency" => load::latency(&options).await,
            "idle" => load::idle(&options).await,
            "ask" => load::ask(&options).await,
            "echo" => hand::ask(&options).await,
            other => Err(Misuse::role(other, "load, latency, idle, ask and echo")),
        }
    })
}
