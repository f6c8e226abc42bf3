//! The `main` of every program.

use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitCode;

use tokio::runtime::Runtime;

use crate::Failed;
use crate::options::Options;

/// Arguments that a program cannot use; it exits with status 2.
#[derive(Debug)]
pub struct Misuse(pub String);

impl Misuse {
    /// Returns the error for a role that the program does not have.
    #[must_use]
    pub fn role(role: &str, known: &str) -> Failed {
        Self(format!("no such role: {role:?}; there are {known}")).into()
    }
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Misuse {}

/// Reads the command line, runs the role that `play` chooses, and returns the exit status: 0, 2
/// after a [`Misuse`], 1 after any other error. Errors are one line on stderr.
pub fn run<F>(runtime: io::Result<Runtime>, play: impl FnOnce(Options) -> F) -> ExitCode
where
    F: Future<Output = Result<(), Failed>>,
{
    // A connection takes a file descriptor. If the limit cannot be raised, connecting fails.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let played = || {
        let options = Options::from_env()?;
        let runtime = runtime?;
        let played = runtime.block_on(play(options));
        // Tasks that still run are connections that nobody waits for.
        runtime.shutdown_background();
        played
    };
    match played() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(if error.is::<Misuse>() { 2 } else { 1 })
        }
    }
}

/// Runs a role as a task of the runtime, next to the tasks of its connections, the way a server
/// runs its handlers. Otherwise the measurement would include waking the thread in `block_on`,
/// which is not part of the runtime.
///
/// # Errors
///
/// The error of the role, or its panic.
pub async fn in_task(
    role: impl Future<Output = Result<(), Failed>> + Send + 'static,
) -> Result<(), Failed> {
    tokio::spawn(role).await?
}
