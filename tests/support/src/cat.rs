use std::process::{Command, Stdio};

use crate::{Line, Process, example};

/// A running `meshcat --events`.
pub struct Cat {
    process: Process,
    addr: Option<String>,
}

/// What a node says last of the frames it saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub received: u64,
    pub delivered: u64,
    pub sent: u64,
    pub relayed: u64,
    pub duplicates: u64,
    pub dropped: u64,
    pub unknown: u64,
}

impl Stats {
    fn of(line: &Line) -> Self {
        Self {
            received: line.number("received"),
            delivered: line.number("delivered"),
            sent: line.number("sent"),
            relayed: line.number("relayed"),
            duplicates: line.number("duplicates"),
            dropped: line.number("dropped"),
            unknown: line.number("unknown"),
        }
    }
}

impl Cat {
    /// The command, with options parted by spaces.
    pub fn command(options: &str) -> Command {
        let mut command = Command::new(example("meshcat"));
        command.args(options.split_whitespace());
        command.env_remove("RUST_LOG");
        command
    }

    /// Starts one with `--events` and these options.
    #[track_caller]
    pub fn start(options: &str) -> Self {
        let mut command = Self::command(options);
        let process = Process::spawn("meshcat", command.arg("--events"));
        Self {
            process,
            addr: None,
        }
    }

    /// Starts one that listens on a free port, and waits until it does.
    #[track_caller]
    pub fn listen(options: &str) -> Self {
        Self::start(&format!("--listen 127.0.0.1:0 {options}")).listening()
    }

    /// The same with its stdout going elsewhere, or piped to be taken.
    #[track_caller]
    pub fn listen_with_stdout(options: &str, stdout: Stdio) -> Self {
        let mut command = Self::command(&format!("--listen 127.0.0.1:0 --events {options}"));
        let process = Process::spawn_with_stdout("meshcat", &mut command, stdout);
        let cat = Self {
            process,
            addr: None,
        };
        cat.listening()
    }

    /// The same with the command given, its streams too.
    #[track_caller]
    pub fn listen_command(command: &mut Command) -> Self {
        Self::start_command(command).listening()
    }

    /// Starts one as the command says, its streams too.
    #[track_caller]
    pub fn start_command(command: &mut Command) -> Self {
        Self {
            process: Process::spawn_as_it_is("meshcat", command),
            addr: None,
        }
    }

    #[track_caller]
    fn listening(mut self) -> Self {
        let line = self.process.wait_stderr_event("listening");
        self.addr = Some(line.text("addr").to_owned());
        self
    }

    /// Starts one that dials `seed`, and waits until it is connected.
    #[track_caller]
    pub fn dial(seed: &str, options: &str) -> Self {
        let cat = Self::start(&format!("--seed {seed} {options}"));
        cat.connected();
        cat
    }

    /// Where it listens.
    #[track_caller]
    pub fn addr(&self) -> String {
        self.addr.clone().expect("it listens")
    }

    /// Waits for a peer that connects, and takes the event.
    #[track_caller]
    pub fn connected(&self) -> Line {
        self.process.wait_stderr_event("peer_connected")
    }

    /// Waits for a peer that leaves, and takes the event.
    #[track_caller]
    pub fn disconnected(&self) -> Line {
        self.process.wait_stderr_event("peer_disconnected")
    }

    /// Waits for an error whose text contains `part`, and takes it.
    #[track_caller]
    pub fn error(&self, part: &str) -> Line {
        self.process
            .wait_stderr(&format!("error with {part:?}"), |text| {
                Line::parse(text)
                    .filter(|line| line.is("error") && line.text("error").contains(part))
            })
    }

    /// Writes a line to its stdin.
    #[track_caller]
    pub fn say(&mut self, line: &str) {
        self.process.writeln(line);
    }

    /// Waits until it writes this line to stdout, and takes it.
    #[track_caller]
    pub fn hear(&self, line: &str) {
        self.process.wait_stdout(&format!("line {line:?}"), |text| {
            (text == line).then_some(())
        });
    }

    /// All that it wrote to stdout so far.
    pub fn heard(&self) -> Vec<String> {
        self.process.stdout().all()
    }

    /// Waits until it has left with status 0, and returns what it counted.
    #[track_caller]
    pub fn left(&mut self) -> Stats {
        self.left_with(0)
    }

    /// Waits until it has left with this status, and returns what it counted.
    #[track_caller]
    pub fn left_with(&mut self, code: i32) -> Stats {
        let status = self.process.wait_exit();
        assert_eq!(status.code(), Some(code), "{}", self.process.transcript());
        Stats::of(&self.process.wait_stderr_event("stats"))
    }

    /// Asks it to leave, and returns what it counted.
    #[track_caller]
    pub fn stop(&mut self) -> Stats {
        self.process.signal("TERM");
        self.left()
    }

    /// The process, for its streams and signals.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
