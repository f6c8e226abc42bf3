//! Load that knows only the wire: `load ROLE [OPTIONS]`.

use std::process::ExitCode;

use native::options::Options;
use native::{hand, load, report};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = match Options::from_env() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    report::exit(match &*options.role {
        "load" => load::load(&options).await,
        "latency" => load::latency(&options).await,
        "idle" => load::idle(&options).await,
        "ask" => load::ask(&options).await,
        "echo" => hand::ask(&options).await,
        other => Err(format!(
            "no such role: {other:?}; there are load, latency, idle, ask and echo"
        )
        .into()),
    })
}
