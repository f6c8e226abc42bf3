//! The roles written by hand: `hand ROLE [OPTIONS]`.

use std::process::ExitCode;

use common::Failed;
use common::options::{Options, Relay};
use common::program::{self, Misuse, in_task};
use native::{hand, load};
use tokio::runtime::Runtime;

fn main() -> ExitCode {
    program::run(Runtime::new(), |options| {
        in_task(async move { play(&options).await })
    })
}

async fn play(options: &Options) -> Result<(), Failed> {
    match &*options.role {
        "hub" if options.relay == Relay::None => hand::hold().await,
        "hub" => hand::hub(options).await,
        "idle" => load::idle(options).await,
        "receive" => hand::receive(options).await,
        "send" => hand::send(options).await,
        "pump" => hand::pump(options).await,
        "answer" => hand::answer().await,
        "ask" => hand::ask(options).await,
        "mesh" => hand::mesh(options).await,
        other => Err(Misuse::role(
            other,
            "hub, idle, receive, send, pump, answer, ask and mesh",
        )),
    }
}
