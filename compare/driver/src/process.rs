//! A child process that is read from, measured from outside, and always ended.
//!
//! Each child leads a process group of its own. When its [`Process`] is dropped, the whole group is
//! killed and the child reaped.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use std::{fmt, io, thread};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use serde::Serialize;
use serde_json::Value;

use crate::output::{LastWords, listen, one_line};
use crate::procfs;
use crate::track::Track;

/// The interval at which a process is looked at.
const TICK: Duration = Duration::from_millis(20);

/// The reason that a process did not do its work.
#[derive(Debug)]
pub(crate) enum Cause {
    /// It could not be started.
    Start(io::Error),
    /// It ended early, or with a status other than 0. Has the last line of its stderr.
    Ended(ExitStatus, String),
    /// It took too long.
    Late {
        /// The object that it should have printed.
        waited_for: &'static str,
        /// The length of the wait.
        seconds: f64,
        /// The last line of its stderr.
        said: String,
    },
    /// It printed something invalid.
    Unclear(String),
    /// A signal has ended the comparison.
    Interrupted,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Start(error) => write!(f, "does not start: {error}"),
            Cause::Ended(status, said) => {
                match (status.code(), status.signal()) {
                    (Some(code), _) => write!(f, "exit status {code}")?,
                    (None, Some(signal)) => write!(f, "ended by signal {signal}")?,
                    (None, None) => write!(f, "ended")?,
                }
                or_nothing(f, said)
            }
            Cause::Late {
                waited_for,
                seconds,
                said,
            } => {
                write!(f, "no {waited_for} within {seconds:.1} s")?;
                or_nothing(f, said)
            }
            Cause::Unclear(what) => f.write_str(what),
            Cause::Interrupted => f.write_str("interrupted"),
        }
    }
}

fn or_nothing(f: &mut fmt::Formatter<'_>, said: &str) -> fmt::Result {
    if said.is_empty() {
        return Ok(());
    }
    write!(f, ": {said}")
}

/// The resources that a process has used, as seen from outside.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Usage {
    /// Time from its start to its end.
    pub(crate) wall_seconds: f64,
    /// CPU time in the process itself.
    pub(crate) user_seconds: f64,
    /// CPU time in the kernel for it.
    pub(crate) system_seconds: f64,
    /// The peak of its resident memory, at the last look at it.
    pub(crate) peak_rss_bytes: u64,
}

/// A process that has ended with status 0.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The last object that it printed since the last read.
    pub(crate) result: Option<Value>,
    /// The resources that it used.
    pub(crate) usage: Usage,
    /// Its CPU time over time.
    pub(crate) track: Track,
}

/// A running child.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    last_words: LastWords,
    interrupted: Arc<AtomicBool>,
    started: Instant,
    track: Track,
    peak_rss: u64,
    reaped: bool,
}

impl Process {
    /// Starts a child in a group of its own.
    pub(crate) fn start(
        mut command: Command,
        interrupted: &Arc<AtomicBool>,
    ) -> Result<Process, Cause> {
        let started = Instant::now();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(Cause::Start)?;
        let lines = listen(child.stdout.take());
        let last_words = LastWords::of(child.stderr.take());
        Ok(Process {
            stdin: child.stdin.take(),
            child,
            lines,
            last_words,
            interrupted: Arc::clone(interrupted),
            started,
            track: Track::from(started),
            peak_rss: 0,
            reaped: false,
        })
    }

    /// Returns the id of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the next line that the process prints, which must be an object. Looks at `other`
    /// meanwhile too.
    pub(crate) fn object(
        &mut self,
        waited_for: &'static str,
        patience: Duration,
        mut other: Option<&mut Process>,
    ) -> Result<Value, Cause> {
        let asked = Instant::now();
        loop {
            match self.lines.recv_timeout(TICK) {
                Ok(line) => return parse(&line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    // It is ending, or it has closed its stdout and runs on.
                    if self.ended() {
                        return Err(self.reap_as_cause(waited_for));
                    }
                    thread::sleep(TICK);
                }
            }
            self.look();
            if let Some(other) = other.as_deref_mut() {
                other.look();
            }
            self.go_on(waited_for, asked, patience)?;
        }
    }

    /// Lets some time pass, and looks at the process meanwhile.
    pub(crate) fn rest(&mut self, time: Duration) -> Result<(), Cause> {
        let asked = Instant::now();
        while asked.elapsed() < time {
            thread::sleep(TICK.min(time));
            self.look();
            if self.interrupted.load(Ordering::Relaxed) {
                return Err(Cause::Interrupted);
            }
        }
        Ok(())
    }

    /// Closes its stdin, and waits until it has ended by itself with status 0.
    pub(crate) fn end(mut self, patience: Duration) -> Result<Ended, Cause> {
        self.look();
        self.stdin = None;
        let asked = Instant::now();
        let mut result = None;
        while !self.ended() {
            match self.lines.recv_timeout(TICK) {
                Ok(line) => result = Some(parse(&line)?),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => thread::sleep(TICK / 4),
            }
            self.look();
            self.go_on("end", asked, patience)?;
        }
        self.look();
        let wall_seconds = self.started.elapsed().as_secs_f64();
        let status = self.reap().map_err(Cause::Start)?;
        if !status.success() {
            return Err(Cause::Ended(status, self.last_words.hear()));
        }
        while let Ok(line) = self.lines.recv_timeout(TICK) {
            result = Some(parse(&line)?);
        }
        let cpu = self.track.last();
        Ok(Ended {
            result,
            usage: Usage {
                wall_seconds,
                user_seconds: cpu.user,
                system_seconds: cpu.system,
                peak_rss_bytes: self.peak_rss,
            },
            track: std::mem::take(&mut self.track),
        })
    }

    /// Returns the cause if the process has ended by itself with a status other than 0.
    pub(crate) fn failed(&mut self) -> Option<Cause> {
        if !self.ended() {
            return None;
        }
        let status = self.reap().ok()?;
        (!status.success()).then(|| Cause::Ended(status, self.last_words.hear()))
    }

    /// Reads its CPU time and memory.
    fn look(&mut self) {
        if self.reaped {
            return;
        }
        if let Some(cpu) = procfs::cpu_time(self.id()) {
            self.track.add(Instant::now(), cpu);
        }
        if let Some(peak) = procfs::peak_memory(self.id()) {
            self.peak_rss = self.peak_rss.max(peak);
        }
    }

    fn go_on(
        &self,
        waited_for: &'static str,
        asked: Instant,
        patience: Duration,
    ) -> Result<(), Cause> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(Cause::Interrupted);
        }
        if asked.elapsed() >= patience {
            return Err(Cause::Late {
                waited_for,
                seconds: patience.as_secs_f64(),
                said: self.last_words.so_far(),
            });
        }
        Ok(())
    }

    /// Returns whether it has ended. It is not reaped, so its times can still be read.
    fn ended(&self) -> bool {
        if self.reaped {
            return true;
        }
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match rustix::process::waitid(WaitId::Pid(self.pid()), options) {
            Ok(status) => status.is_some(),
            Err(error) => error != rustix::io::Errno::INTR,
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn reap_as_cause(&mut self, waited_for: &'static str) -> Cause {
        match self.reap() {
            Ok(status) if status.success() => {
                let said = self.last_words.hear();
                let colon = if said.is_empty() { "" } else { ": " };
                Cause::Unclear(format!("ended without a {waited_for}{colon}{said}"))
            }
            Ok(status) => Cause::Ended(status, self.last_words.hear()),
            Err(error) => Cause::Start(error),
        }
    }

    /// Kills the rest of its group, and reaps it. Until then no other process gets its id, which is
    /// that of the group.
    fn reap(&mut self) -> io::Result<ExitStatus> {
        if !self.reaped {
            // An error means that nobody is left in the group.
            let _ = rustix::process::kill_process_group(self.pid(), Signal::KILL);
        }
        let status = self.child.wait();
        self.reaped = true;
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = self.reap();
        }
    }
}

fn parse(line: &str) -> Result<Value, Cause> {
    match serde_json::from_str(line) {
        Ok(object @ Value::Object(_)) => Ok(object),
        _ => Err(Cause::Unclear(format!(
            "prints what is no object: {}",
            one_line(line)
        ))),
    }
}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;
