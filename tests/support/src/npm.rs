use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Instant;

use crate::{DEADLINE, Line, Process};

/// Set to `1`, it skips what needs npm, for a machine without it or without a network.
const SKIP: &str = "COALESCENT_SKIP_NPM";

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../npm")
}

/// Installs the Node original unless it is there, and tells whether to go on: `false` only where
/// the person asked to skip.
///
/// # Panics
///
/// If node or npm is missing, or the installation fails, with what to do about it.
#[track_caller]
pub fn npm_ready() -> bool {
    if std::env::var_os(SKIP).is_some_and(|value| value == "1") {
        eprintln!("skipped, as {SKIP}=1");
        return false;
    }
    // Once for all the tests of this process: they run as threads, and would each install.
    static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();
    if let Err(why) = INSTALLED.get_or_init(install) {
        panic!(
            "cannot install the Node peers: {why}\n\
             install node and npm (Debian: apt-get install nodejs npm), check the network, \
             or set {SKIP}=1 to skip these tests"
        );
    }
    true
}

/// Installs beside `node_modules`, then moves it there in one step, unless it is there.
///
/// Tests run as many processes at once. None may see half an installation, and none may wait for a
/// lock whose holder was killed.
fn install() -> Result<(), String> {
    let target = directory().join("node_modules");
    if target.is_dir() {
        return Ok(());
    }
    let staging = directory().join(format!(".install-{}", std::process::id()));
    // A process of the same id that was killed here may have left it.
    let _ = fs::remove_dir_all(&staging);
    let moved = stage(&staging).and_then(|()| {
        match fs::rename(staging.join("node_modules"), &target) {
            // Another process was first, which is as good.
            Err(_) if target.is_dir() => Ok(()),
            moved => moved.map_err(|error| format!("{}: {error}", target.display())),
        }
    });
    let _ = fs::remove_dir_all(&staging);
    moved
}

fn stage(staging: &Path) -> Result<(), String> {
    fs::create_dir_all(staging).map_err(|error| error.to_string())?;
    for name in ["package.json", "package-lock.json", ".npmrc"] {
        fs::copy(directory().join(name), staging.join(name))
            .map_err(|error| format!("{name}: {error}"))?;
    }
    let output = Command::new("npm")
        .args(["ci", "--no-progress"])
        .current_dir(staging)
        .output()
        .map_err(|error| format!("npm: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!(
            "npm ci: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ))
    }
}

/// A running peer of the Node original; see `tests/npm/README.md` for what it does.
pub struct NpmPeer {
    process: Process,
    port: u16,
}

impl NpmPeer {
    /// Starts a peer on a free port with further options of `tests/npm/peer.js`, and waits until it
    /// listens.
    #[track_caller]
    pub fn start(options: &[&str]) -> Self {
        let mut command = Command::new("node");
        command
            .arg("peer.js")
            .args(options)
            .current_dir(directory());
        let process = Process::spawn("the Node peer", &mut command);
        let port = process.wait_stdout_event("listening").number("port");
        Self {
            process,
            port: u16::try_from(port).expect("a port"),
        }
    }

    /// Its address as `host:port`, for a seed.
    pub fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Gives it a command, such as `broadcast TYPE JSON`.
    #[track_caller]
    pub fn command(&mut self, line: &str) {
        self.process.writeln(line);
    }

    /// Waits for an event, and takes it.
    #[track_caller]
    pub fn wait(&self, event: &str) -> Line {
        self.process.wait_stdout_event(event)
    }

    /// Waits until its application reads a courier's message of this type, takes it, and returns
    /// the body.
    #[track_caller]
    pub fn wait_message(&self, kind: &str) -> serde_json::Value {
        self.process
            .wait_stdout(&format!("message {kind}"), |text| {
                let line = Line::parse(text).filter(|line| line.is("data"))?;
                let message = line.field("object");
                (message.get("type")?.as_str()? == kind).then(|| message.get("body").cloned())?
            })
    }

    /// Its port, so that another can take its place.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits until all that its application has read (without a courier) is these bytes, in
    /// whatever pieces.
    #[track_caller]
    pub fn wait_bytes(&self, expected: &[u8]) {
        let read = self.process.stdout().wait_until(DEADLINE, |lines| {
            let read: Vec<u8> = lines
                .iter()
                .filter_map(|text| Line::parse(text).filter(|line| line.is("data")))
                .flat_map(|line| decode_base64(line.text("base64")))
                .collect();
            read == expected
        });
        if let Err(missing) = read {
            panic!(
                "the Node peer did not read the {} bytes: {missing}\n{}",
                expected.len(),
                self.process.transcript()
            );
        }
    }

    /// Waits until it has so many connections.
    #[track_caller]
    pub fn wait_peers(&mut self, count: u64) {
        let end = Instant::now() + DEADLINE;
        loop {
            self.command("peers");
            let found = self.wait("peers").number("count");
            if found == count {
                return;
            }
            assert!(
                Instant::now() < end,
                "the Node peer has {found} peers, not {count}"
            );
        }
    }

    /// Fails unless it still runs, and answers.
    #[track_caller]
    pub fn assert_alive(&mut self) {
        self.command("peers");
        self.wait("peers");
        assert!(self.process.is_running(), "{}", self.process.transcript());
    }

    /// Waits until its application reads these bytes in one piece (without a courier), and takes
    /// them.
    #[track_caller]
    pub fn wait_text(&self, expected: &str) {
        self.process
            .wait_stdout(&format!("data {expected:?}"), |text| {
                let line = Line::parse(text).filter(|line| line.is("data"))?;
                (line.field("utf8").as_str()? == expected).then_some(())
            });
    }

    /// The process, for its streams and signals.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// Reads what Node's `toString('base64')` writes.
fn decode_base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count) = (0_u32, 0);
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for digit in text.bytes().take_while(|digit| *digit != b'=') {
        let value = DIGITS.iter().position(|known| *known == digit);
        bits = bits << 6 | u32::try_from(value.expect("base64")).expect("below 64");
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    bytes
}
