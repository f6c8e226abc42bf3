//! One child process: started, listened to, watched from outside, and ended for certain.
//!
//! Each child leads a process group of its own, and whatever way a [`Process`] is left, its whole
//! group is killed and the child reaped.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{fmt, io, thread};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use serde::Serialize;
use serde_json::Value;

use crate::procfs::{self, CpuTime};

/// How often a process is looked at.
const TICK: Duration = Duration::from_millis(20);

/// How long its last words are waited for after a process has ended.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The longest line that is taken from a process.
const LONGEST_LINE: u64 = 64 * 1024;

/// How many lines of a process may wait to be read.
const LINES: usize = 16;

/// Why a process did not do what it was started for.
#[derive(Debug)]
pub(crate) enum Cause {
    /// It could not be started.
    Start(io::Error),
    /// It ended where it should not have, or with a status other than 0; with the last line of its
    /// stderr.
    Ended(ExitStatus, String),
    /// It took longer than it may.
    Late {
        /// What was waited for.
        waited_for: &'static str,
        /// For how long.
        seconds: f64,
        /// The last line of its stderr.
        said: String,
    },
    /// It printed something else than it should.
    Unclear(String),
    /// The person or the system asked for an end.
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

/// What was measured of a process from outside.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Usage {
    /// From its start to its end.
    pub(crate) wall_seconds: f64,
    /// CPU time in the process itself.
    pub(crate) user_seconds: f64,
    /// CPU time in the kernel for it.
    pub(crate) system_seconds: f64,
    /// The most memory it had resident, by the last look at it.
    pub(crate) peak_rss_bytes: u64,
}

/// A process that ended as it should.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The last object that it printed since it was last listened to.
    pub(crate) result: Option<Value>,
    /// What it used.
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

    /// The id of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the next line that the process prints, an object, while `other` is watched as
    /// well. Returns when the line was there.
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
                    // It ends, or has closed its stdout and goes on: that is told apart by waiting.
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

    /// Lets some time pass while the process is watched.
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

    /// Ends its stdin and waits until it has ended by itself, with status 0.
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

    /// Why the process has ended by itself with a status other than 0, if it has.
    pub(crate) fn failed(&mut self) -> Option<Cause> {
        if !self.ended() {
            return None;
        }
        let status = self.reap().ok()?;
        (!status.success()).then(|| Cause::Ended(status, self.last_words.hear()))
    }

    /// Takes its CPU time and memory.
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

    /// Whether it has ended; it is not reaped by this, so its times can still be read.
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

    /// Kills what is left of its group, and reaps it. Until then its id, which is the group's, is
    /// not given to another.
    fn reap(&mut self) -> io::Result<ExitStatus> {
        if !self.reaped {
            // A group of which nobody is left to be killed is what is wanted.
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

/// The text as one line of bounded length, whatever was in it.
pub(crate) fn one_line(text: &str) -> String {
    const LONGEST: usize = 200;
    let mut line: String = text
        .trim()
        .chars()
        .take(LONGEST)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.trim().chars().nth(LONGEST).is_some() {
        line.push_str("...");
    }
    line
}

/// Reads one line of bounded length; what is longer comes in parts.
fn read_line(from: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    let read = from.take(LONGEST_LINE).read_until(b'\n', &mut line).ok()?;
    (read > 0).then(|| String::from_utf8_lossy(&line).trim_end().to_owned())
}

/// The lines of a stream. A process that prints more than is asked of it waits.
fn listen(stdout: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (sender, receiver) = mpsc::sync_channel(LINES);
    if let Some(stdout) = stdout {
        thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            while let Some(line) = read_line(&mut stdout) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
    }
    receiver
}

/// The last line of a process's stderr.
#[derive(Debug)]
struct LastWords {
    line: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl LastWords {
    fn of(stderr: Option<impl Read + Send + 'static>) -> LastWords {
        let line = Arc::new(Mutex::new(String::new()));
        let written = Arc::clone(&line);
        let reader = stderr.map(|stderr| {
            thread::spawn(move || {
                let mut stderr = BufReader::new(stderr);
                while let Some(said) = read_line(&mut stderr) {
                    if !said.trim().is_empty() {
                        *written.lock().unwrap_or_else(PoisonError::into_inner) = one_line(&said);
                    }
                }
            })
        });
        LastWords { line, reader }
    }

    fn so_far(&self) -> String {
        self.line
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The last line of a process that has ended.
    fn hear(&self) -> String {
        let asked = Instant::now();
        while asked.elapsed() < LAST_WORDS {
            match &self.reader {
                Some(reader) if !reader.is_finished() => thread::sleep(Duration::from_millis(2)),
                _ => break,
            }
        }
        self.so_far()
    }
}

/// The CPU time of a process over time.
#[derive(Debug, Default)]
pub(crate) struct Track(Vec<(Instant, CpuTime)>);

impl Track {
    fn from(started: Instant) -> Track {
        Track(vec![(started, CpuTime::default())])
    }

    fn add(&mut self, when: Instant, cpu: CpuTime) {
        self.0.push((when, cpu));
    }

    fn last(&self) -> CpuTime {
        self.0.last().map(|(_, cpu)| *cpu).unwrap_or_default()
    }

    /// The CPU time at a moment, in seconds, with steady use between two looks.
    fn at(&self, when: Instant) -> f64 {
        let after = self.0.partition_point(|(looked, _)| *looked <= when);
        let earlier = after.checked_sub(1).and_then(|index| self.0.get(index));
        match (earlier, self.0.get(after)) {
            (Some((t0, c0)), Some((t1, c1))) => {
                let share = when.duration_since(*t0).as_secs_f64()
                    / t1.duration_since(*t0).as_secs_f64().max(f64::EPSILON);
                c0.total() + (c1.total() - c0.total()) * share
            }
            (Some((_, cpu)), None) => cpu.total(),
            _ => 0.0,
        }
    }

    /// The most CPU time in any stretch of so many seconds.
    pub(crate) fn busiest(&self, seconds: f64) -> f64 {
        let stretch = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        let Some((end, _)) = self.0.last() else {
            return 0.0;
        };
        let whole = self.last().total();
        let stretches = self.0.iter().map_while(|(begin, cpu)| {
            let until = begin.checked_add(stretch)?;
            (until <= *end).then(|| self.at(until) - cpu.total())
        });
        stretches.reduce(f64::max).unwrap_or(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<Process, Cause> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start(command, &Arc::default())
    }

    const LONG: Duration = Duration::from_secs(30);
    const SHORT: Duration = Duration::from_millis(200);

    fn gone(pid: u32) -> bool {
        !std::path::Path::new(&format!("/proc/{pid}")).exists()
    }

    #[test]
    fn a_process_is_heard_and_ends_with_its_stdin() -> Result<(), Cause> {
        let mut process = shell("echo '{\"listening\":\"here\"}'; cat; echo '{\"peers\":9}'")?;
        let object = process.object("address", LONG, None)?;
        assert_eq!(object["listening"], "here");
        let ended = process.end(LONG)?;
        assert_eq!(ended.result.unwrap_or_default()["peers"], 9);
        assert!(ended.usage.wall_seconds > 0.0);
        assert!(ended.usage.peak_rss_bytes > 0);
        Ok(())
    }

    #[test]
    fn a_crash_is_told_with_its_last_words() -> Result<(), Cause> {
        let mut process = shell("echo first >&2; echo 'port in use' >&2; exit 3")?;
        let cause = process.object("address", LONG, None).map(|_| ());
        let said = cause.map_or_else(|cause| cause.to_string(), |()| String::new());
        assert_eq!(said, "exit status 3: port in use");
        Ok(())
    }

    #[test]
    fn silence_has_a_limit_and_leaves_nothing() -> Result<(), Cause> {
        let mut process = shell("sleep 1000 & echo $! >&2; wait")?;
        let cause = process.object("address", SHORT, None).map(|_| ());
        let said = cause.map_or_else(|cause| cause.to_string(), |()| String::new());
        assert!(said.starts_with("no address within 0.2 s: "), "{said}");
        let (leader, follower) = (process.id(), said.rsplit(' ').next().unwrap_or(""));
        let follower = follower.parse().unwrap_or(leader);
        assert_ne!(leader, follower);
        drop(process);
        assert!(gone(leader));
        let asked = Instant::now();
        while !gone(follower) && asked.elapsed() < LONG {
            thread::sleep(TICK);
        }
        assert!(gone(follower));
        Ok(())
    }

    #[test]
    fn a_process_that_does_not_end_is_killed() -> Result<(), Cause> {
        let process = shell("exec sleep 1000")?;
        let pid = process.id();
        let cause = process.end(SHORT);
        assert!(matches!(cause, Err(Cause::Late { .. })), "{cause:?}");
        assert!(gone(pid));
        Ok(())
    }

    #[test]
    fn an_interruption_ends_the_wait() -> Result<(), Cause> {
        let interrupted = Arc::new(AtomicBool::new(true));
        let mut command = Command::new("sleep");
        command.arg("1000");
        let mut process = Process::start(command, &interrupted)?;
        let cause = process.object("address", LONG, None);
        assert!(matches!(cause, Err(Cause::Interrupted)), "{cause:?}");
        Ok(())
    }

    #[test]
    fn the_cpu_time_of_a_busy_process_is_seen() -> Result<(), Cause> {
        let process = shell("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done")?;
        let ended = process.end(LONG)?;
        assert!(ended.usage.user_seconds > 0.0, "{:?}", ended.usage);
        Ok(())
    }

    #[test]
    fn a_track_is_read_between_its_points() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let used = |user| CpuTime { user, system: 0.0 };
        let mut track = Track::from(start);
        track.add(after(1000), used(0.5));
        track.add(after(2000), used(1.5));
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} is not {b}");
        close(track.at(after(1500)), 1.0);
        close(track.at(after(9000)), 1.5);
        close(track.busiest(1.0), 1.0);
        close(track.busiest(1.5), 1.0);
        close(track.busiest(2.0), 1.5);
        close(track.busiest(9.0), 1.5);
        close(Track::default().busiest(1.0), 0.0);
    }

    #[test]
    fn lines_are_bounded_and_clean() {
        assert_eq!(one_line(" a\tb\n"), "a b");
        let long = one_line(&"x".repeat(1000));
        assert_eq!(long.len(), 203);
        let mut endless = BufReader::new(io::repeat(b'x'));
        let line = read_line(&mut endless).unwrap_or_default();
        assert_eq!(line.len() as u64, LONGEST_LINE);
    }
}
