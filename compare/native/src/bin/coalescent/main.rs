//! The same roles through coalescent's public API: `coalescent ROLE [OPTIONS]`.

mod hub;
mod mesh;
mod one_hop;
mod requests;

use std::process::ExitCode;

use native::load;
use native::options::Options;
use native::report::{self, Failed};

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
        "hub" => hub::hub(options).await,
        "idle" if options.tls => hub::idle(options).await,
        "idle" => load::idle(options).await,
        "receive" => one_hop::receive(options).await,
        "send" => one_hop::send(options).await,
        "pump" => one_hop::pump(options).await,
        "answer" => requests::answer(options).await,
        "ask" => requests::ask(options).await,
        "mesh" => mesh::mesh(options).await,
        other => Err(format!(
            "no such role: {other:?}; there are hub, idle, receive, send, pump, answer, ask and mesh"
        )
        .into()),
    }
}
