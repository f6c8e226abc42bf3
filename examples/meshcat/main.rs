//! Netcat for a mesh: broadcasts stdin to all peers and writes the frames of peers to stdout.
//!
//! ```text
//! cargo run --example meshcat -- --listen 127.0.0.1:1337
//! cargo run --example meshcat -- --seed 127.0.0.1:1337
//! ```
//!
//! `--help` lists the options. Any program that speaks one of the wires can be a peer: with `--wire
//! lines`, connect with `nc 127.0.0.1 1337`.

mod args;
#[path = "../support/command_line.rs"]
mod command_line;
mod events;
mod line;
mod lines;
mod reply;
mod stack;
mod stderr;
mod stdin;
mod stdout;
mod streams;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use args::Args;
use coalescent::{Address, Events, Mesh, Stats};
use command_line::Answer;
use stderr::Stderr;
use stdin::Progress;
use streams::Stream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How long to wait for stdout after the mesh has shut down.
const LAST_FRAMES: Duration = Duration::from_secs(10);

/// The exit status after a second signal.
const IMPATIENT: i32 = 130;

fn main() -> ExitCode {
    let args = match args::parse(std::env::args_os()) {
        Ok(args) => args,
        Err(Answer::Text(text)) => return say(&text),
        Err(Answer::Refusal(why)) => {
            // It may name a file, and its name may hold any character.
            let line = format!("meshcat: {}\n", why.replace(char::is_control, "?"));
            let _ = Stream::stderr().and_then(|mut stderr| stderr.write_all(line.as_bytes()));
            return ExitCode::from(2);
        }
    };
    let stderr = Stderr::start(args.streams.events);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            stderr.report(&format!("cannot start: {error}"));
            stderr.finish();
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(run(args, &stderr));
    let code = match result {
        Ok(code) => code,
        Err(Failure { code, text }) => {
            stderr.last_report(&text);
            ExitCode::from(code)
        }
    };
    stderr.finish();
    // Do not wait for threads that are blocked on stdin or stdout.
    runtime.shutdown_background();
    code
}

/// The reason why the mesh could not start, and the exit status for it.
struct Failure {
    code: u8,
    text: String,
}

impl From<coalescent::Error> for Failure {
    fn from(error: coalescent::Error) -> Self {
        let code = if error.is_config() { 2 } else { 1 };
        let text = if error.is_plaintext() {
            "an address other than loopback needs TLS: give --identity FILE, or --allow-plaintext \
             to let everyone on the way read and change what is said"
                .to_owned()
        } else {
            error.report().to_string()
        };
        Self { code, text }
    }
}

async fn run(mut args: Args, stderr: &Stderr) -> Result<ExitCode, Failure> {
    let mut signals = Signals::watch().map_err(|error| Failure {
        code: 1,
        text: format!("cannot watch for signals: {error}"),
    })?;
    let seeds = std::mem::take(&mut args.peers.seeds);
    let listen = args.peers.listen.take();
    let (peers, quiet, once) = (args.streams.peers, args.streams.quiet, args.streams.once);
    let messages = args.frames.codec.get().is_some();
    let form = stdout::Form::new(&args.frames.wire, messages, args.keys.show_author);

    let mesh = stack::start(args).await?;
    let events = stderr
        .shows_events()
        .then(|| tokio::spawn(show(mesh.events(), stderr.clone())));
    // Create the reader before a peer can connect, so that no frame is missed.
    let stdout = (!quiet).then(|| tokio::spawn(stdout::run(mesh.reader(), form, stderr.clone())));
    let progress = Progress::default();
    let running = async {
        open(&mesh, listen, seeds).await?;
        let stdin = stdin::run(mesh.clone(), peers, stderr.clone(), progress.clone());
        said(tokio::spawn(stdin), &mesh, once).await;
        Ok::<_, coalescent::Error>(())
    };
    let asked = tokio::select! {
        () = signals.next() => true,
        ended = running => {
            ended?;
            false
        }
    };
    // Taken before the shutdown, because input read from now on is no longer sent.
    let said = progress.so_far();
    exit_on_signal(signals, asked);

    let deadline = Instant::now() + LAST_FRAMES;
    let stats = mesh.shutdown().await;
    if let Some(stdout) = stdout {
        let _ = tokio::time::timeout_at(deadline, stdout).await;
    }
    if let Some(events) = events {
        let _ = events.await;
    }
    let missing = said.missing(&stats).filter(|_| once);
    Ok(report_end(stderr, missing.as_deref(), &stats))
}

/// Reports how the run ended, and returns the exit status for it.
fn report_end(stderr: &Stderr, missing: Option<&str>, stats: &Stats) -> ExitCode {
    if let Some(missing) = missing {
        stderr.last_report(missing);
    }
    if stderr.shows_events() {
        stderr.last_line(events::stats(stats));
    }
    match missing {
        Some(_) => ExitCode::FAILURE,
        None => ExitCode::SUCCESS,
    }
}

/// Starts listening and dialling.
async fn open(
    mesh: &Mesh,
    listen: Option<String>,
    seeds: Vec<Address>,
) -> Result<(), coalescent::Error> {
    if let Some(addr) = listen {
        mesh.listen(&addr).await?;
    }
    for seed in seeds {
        mesh.add_seed(&seed.to_string())?;
    }
    Ok(())
}

/// Exits immediately on the next signal, or, if no signal has `asked` this process to leave yet, on
/// the one after it.
fn exit_on_signal(mut signals: Signals, asked: bool) {
    tokio::spawn(async move {
        if !asked {
            // The first signal asks for the shutdown that is already in progress.
            signals.next().await;
        }
        signals.next().await;
        std::process::exit(IMPATIENT);
    });
}

/// Writes events to stderr until the mesh ends.
async fn show(mut events: Events, stderr: Stderr) {
    while let Some(event) = events.next().await {
        if let Some(line) = events::line(&event) {
            stderr.line(line);
        }
    }
}

/// Waits until all of stdin has been written to the peers with `--once`, and forever without it.
async fn said(stdin: JoinHandle<()>, mesh: &Mesh, once: bool) {
    let _ = stdin.await;
    if !once {
        std::future::pending::<()>().await;
    }
    mesh.peers().flushed().await;
}

/// The signals that ask this process to leave.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn watch() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

fn say(text: &str) -> ExitCode {
    match Stream::stdout().and_then(|mut stdout| stdout.write_all(text.as_bytes())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
