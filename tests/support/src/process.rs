use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, thread};

use crate::{DEADLINE, Line};

/// How often a process is asked whether it has ended, since nothing wakes us for that.
const EXIT_POLL: Duration = Duration::from_millis(5);

/// The path of an example that cargo built beside this test.
///
/// # Panics
///
/// If it is not there: `cargo test` builds the examples, `cargo test --test it` does not.
#[track_caller]
pub fn example(name: &str) -> PathBuf {
    // The test itself is target/PROFILE/deps/TEST-HASH.
    let test = std::env::current_exe().expect("the test's own path");
    let profile = test
        .parent()
        .and_then(|deps| deps.parent())
        .expect("target/PROFILE");
    let path = profile
        .join("examples")
        .join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(
        path.is_file(),
        "{} is missing: run `cargo build --examples --all-features` first",
        path.display()
    );
    path
}

/// A process that is killed when it is dropped.
pub struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Lines,
    stderr: Lines,
}

impl Process {
    /// Starts the command with its three streams piped.
    #[track_caller]
    pub fn spawn(name: &str, command: &mut Command) -> Self {
        let mut process = Self::spawn_with_stdout(name, command, Stdio::piped());
        let stdout = process.child.stdout.take().expect("stdout is piped");
        process.stdout = Lines::read(stdout);
        process
    }

    /// Starts the command with its stdout going elsewhere, or piped to
    /// [`take_stdout`](Self::take_stdout).
    #[track_caller]
    pub fn spawn_with_stdout(name: &str, command: &mut Command, stdout: Stdio) -> Self {
        Self::spawn_as_it_is(name, command.stdin(Stdio::piped()).stdout(stdout))
    }

    /// Starts the command with the stdin and stdout that it was given.
    #[track_caller]
    pub fn spawn_as_it_is(name: &str, command: &mut Command) -> Self {
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        let stdout = Lines::read(std::io::empty());
        let stderr = Lines::read(child.stderr.take().expect("stderr is piped"));
        Self {
            name: name.to_owned(),
            stdin: child.stdin.take(),
            child,
            stdout,
            stderr,
        }
    }

    /// The most memory that it has had at a time, in bytes, as the system counts it.
    #[track_caller]
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()));
        let status = status.expect("the process runs, on Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB"));
        kib.and_then(|kib| kib.parse::<u64>().ok())
            .expect("a number of KiB")
            * 1024
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The lines that it wrote to stdout.
    pub fn stdout(&self) -> &Lines {
        &self.stdout
    }

    /// The lines that it wrote to stderr.
    pub fn stderr(&self) -> &Lines {
        &self.stderr
    }

    /// Writes bytes to its stdin.
    #[track_caller]
    pub fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("stdin is still open");
        let written = stdin.write_all(bytes).and_then(|()| stdin.flush());
        if let Err(error) = written {
            panic!(
                "cannot write to {}: {error}\n{}",
                self.name,
                self.transcript()
            );
        }
    }

    /// Writes a line to its stdin; the newline is added.
    #[track_caller]
    pub fn writeln(&mut self, line: &str) {
        self.write(format!("{line}\n").as_bytes());
    }

    /// Takes its stdin, to be written to elsewhere.
    #[track_caller]
    pub fn take_stdin(&mut self) -> ChildStdin {
        self.stdin.take().expect("stdin is still open")
    }

    /// Takes its stdout, which nothing has read so far.
    #[track_caller]
    pub fn take_stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().expect("started to be taken")
    }

    /// Ends its stdin.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits for a stdout line, not taken yet, that `pick` makes something of, and takes it.
    #[track_caller]
    pub fn wait_stdout<T>(&self, what: &str, pick: impl FnMut(&str) -> Option<T>) -> T {
        self.found(what, self.stdout.take(DEADLINE, pick))
    }

    /// Waits for a stderr line, not taken yet, that `pick` makes something of, and takes it.
    #[track_caller]
    pub fn wait_stderr<T>(&self, what: &str, pick: impl FnMut(&str) -> Option<T>) -> T {
        self.found(what, self.stderr.take(DEADLINE, pick))
    }

    /// Waits for the event of that name on stdout, as JSON, and takes it.
    #[track_caller]
    pub fn wait_stdout_event(&self, event: &str) -> Line {
        self.wait_stdout(event, |text| {
            Line::parse(text).filter(|line| line.is(event))
        })
    }

    /// Waits for the event of that name on stderr, as JSON, and takes it.
    #[track_caller]
    pub fn wait_stderr_event(&self, event: &str) -> Line {
        self.wait_stderr(event, |text| {
            Line::parse(text).filter(|line| line.is(event))
        })
    }

    #[track_caller]
    fn found<T>(&self, what: &str, taken: Result<T, Missing>) -> T {
        match taken {
            Ok(found) => found,
            Err(missing) => panic!(
                "{} wrote no {what}: {missing}\n{}",
                self.name,
                self.transcript()
            ),
        }
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self
                .child
                .try_wait()
                .expect("the process can be waited for")
            {
                return status;
            }
            assert!(
                Instant::now() < end,
                "{} did not end\n{}",
                self.name,
                self.transcript()
            );
            thread::sleep(EXIT_POLL);
        }
    }

    /// Tells whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends it a signal by name, such as `TERM`, `INT`, `STOP` or `CONT`.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        // Through the shell's own `kill`, as this crate forbids `unsafe` and Debian's minimal image
        // has no other.
        let sent = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", name, &self.id().to_string()])
            .status()
            .expect("sh runs");
        assert!(sent.success(), "cannot send {name} to {}", self.name);
    }

    /// All that it wrote, for the message of a test that fails.
    pub fn transcript(&self) -> String {
        format!(
            "stdout of {0}:\n{1}stderr of {0}:\n{2}",
            self.name, self.stdout, self.stderr
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Either fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Why a wait found nothing.
#[derive(Debug)]
pub enum Missing {
    /// The stream ended first.
    Ended,
    /// The deadline passed first.
    Deadline,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("the stream ended"),
            Self::Deadline => write!(f, "nothing in {DEADLINE:?}"),
        }
    }
}

/// The lines of a stream, collected by a thread as they come.
#[derive(Clone)]
pub struct Lines {
    shared: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    /// Each line, and whether a wait has taken it.
    lines: Vec<(String, bool)>,
    ended: bool,
}

impl Lines {
    fn read(stream: impl Read + Send + 'static) -> Self {
        let lines = Self {
            shared: Arc::default(),
        };
        let writer = lines.clone();
        thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut bytes = Vec::new();
            while matches!(stream.read_until(b'\n', &mut bytes), Ok(1..)) {
                let text = String::from_utf8_lossy(bytes.strip_suffix(b"\n").unwrap_or(&bytes));
                writer.state().lines.push((text.into_owned(), false));
                writer.shared.1.notify_all();
                bytes.clear();
            }
            writer.state().ended = true;
            writer.shared.1.notify_all();
        });
        lines
    }

    /// A test that failed while it held the lock is no reason to hide what the process wrote.
    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every line so far, taken or not.
    pub fn all(&self) -> Vec<String> {
        self.state()
            .lines
            .iter()
            .map(|(line, _)| line.clone())
            .collect()
    }

    /// Takes the first line, of those not taken yet, that `pick` makes something of.
    ///
    /// Lines that it passes over stay for later waits, so that two events may come in either order.
    pub fn take<T>(
        &self,
        within: Duration,
        mut pick: impl FnMut(&str) -> Option<T>,
    ) -> Result<T, Missing> {
        let mut from = 0;
        self.wait(within, |state| {
            let fresh = state
                .lines
                .iter_mut()
                .skip(from)
                .filter(|(_, taken)| !taken);
            for (line, taken) in fresh {
                if let Some(found) = pick(line) {
                    *taken = true;
                    return Some(found);
                }
            }
            from = state.lines.len();
            None
        })
    }

    /// Waits until all lines so far, taken or not, together satisfy `done`.
    pub fn wait_until(
        &self,
        within: Duration,
        mut done: impl FnMut(&[&str]) -> bool,
    ) -> Result<(), Missing> {
        self.wait(within, |state| {
            let lines: Vec<&str> = state.lines.iter().map(|(line, _)| line.as_str()).collect();
            done(&lines).then_some(())
        })
    }

    fn wait<T>(
        &self,
        within: Duration,
        mut check: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<T, Missing> {
        let end = Instant::now() + within;
        let mut state = self.state();
        loop {
            if let Some(found) = check(&mut state) {
                return Ok(found);
            }
            if state.ended {
                return Err(Missing::Ended);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Missing::Deadline);
            }
            let woken = self.shared.1.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state()
            .lines
            .iter()
            .try_for_each(|(line, _)| writeln!(f, "  {line}"))
    }
}
