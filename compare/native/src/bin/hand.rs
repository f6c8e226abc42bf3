//! The limits, written by hand: `hand ROLE [OPTIONS]`.

use std::process::ExitCode;

use native::options::Options;
use native::report::{self, Failed};
use native::{hand, load};

#[tokio::main]
async fn main() -> ExitCode {
    let options = match Options::from_env() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    report::exit(report::in_task(async move { run(&options).await }).await)
}

async fn run(options: &Options) -> Result<(), Failed> {
    match &*options.role {
        "hub" if options.relay == "none" => hand::hold().await,
        "hub" => hand::hub(options).await,
        "idle" => load::idle(options).await,
        "receive" => hand::receive(options).await,
        "send" => hand::send(options).await,
        "pump" => hand::pump(options).await,
        "answer" => hand::answer(options).await,
        "ask" => hand::ask(options).await,
        "mesh" => hand::mesh(options).await,
        other => Err(format!(
            "no such role: {other:?}; there are hub, idle, receive, send, pump, answer, ask and mesh"
        )
        .into()),
    }
}
