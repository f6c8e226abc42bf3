//! The same roles through coalescent's public API: `coalescent ROLE [OPTIONS]`.

mod hub;
mod mesh;
mod one_hop;
mod requests;

use std::process::ExitCode;

use common::Failed;
use common::options::Options;
use common::program::{self, Misuse, in_task};
use native::load;
use tokio::runtime::Runtime;

fn main() -> ExitCode {
    program::run(Runtime::new(), |options| {
        in_task(async move { play(&options).await })
    })
}

async fn play(options: &Options) -> Result<(), Failed> {
    match &*options.role {
        "hub" => hub::hub(options).await,
        "idle" if options.tls => hub::idle(options).await,
        "idle" => load::idle(options).await,
        "receive" => one_hop::receive(options).await,
        "send" => one_hop::send(options).await,
        "pump" => one_hop::pump(options).await,
        "answer" => requests::answer(options).await,
        "ask" => requests::ask(options).await,
        "mesh" => mesh::mesh(options).await,
        other => Err(Misuse::role(
            other,
            "hub, idle, receive, send, pump, answer, ask and mesh",
        )),
    }
}
