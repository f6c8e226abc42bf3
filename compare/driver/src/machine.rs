//! The machine and the time of a comparison.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// The machine and the state of the project.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    /// The model of the processor.
    pub(crate) cpu: String,
    /// The number of cores that may be used.
    pub(crate) cores: usize,
    /// Its memory, in bytes.
    pub(crate) memory_bytes: u64,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// The version of the compiler.
    pub(crate) rustc: String,
    /// The version of Node, if it is installed.
    pub(crate) node: String,
    /// The commit that is checked out, with a `+` where files differ from it.
    pub(crate) commit: String,
}

impl Machine {
    /// Describes this machine, and the checkout that the suite is in.
    pub(crate) fn look(home: &Path) -> Machine {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Machine {
            cpu: field(&cpuinfo, "model name").unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: field(&meminfo, "MemTotal")
                .and_then(|total| total.split_whitespace().next()?.parse::<u64>().ok())
                .map_or(0, |kib| kib * 1024),
            kernel: kernel.trim().to_owned(),
            rustc: said(Command::new("rustc").arg("--version")).unwrap_or_else(unknown),
            node: said(Command::new("node").arg("--version")).unwrap_or_else(unknown),
            commit: commit(home).unwrap_or_else(unknown),
        }
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn commit(home: &Path) -> Option<String> {
    let git = || {
        let mut git = Command::new("git");
        git.arg("-C").arg(home);
        git
    };
    let mut commit = said(git().args(["rev-parse", "--short=12", "HEAD"]))?;
    // Untracked files are not built unless a tracked one names them.
    let changed = said(git().args(["status", "--porcelain", "--untracked-files=no"]))?;
    if !changed.is_empty() {
        commit.push('+');
    }
    Some(commit)
}

/// Returns the output of a program, if it is installed and succeeds.
fn said(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Returns the value of the first line `NAME : VALUE`.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

/// Returns the present date and time, in UTC, as a file name.
pub(crate) fn now() -> String {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    date_and_time(since.as_secs())
}

/// Formats seconds since 1970 as `2025-11-25T075300Z`.
fn date_and_time(seconds: u64) -> String {
    let (day, second) = (seconds / 86_400, seconds % 86_400);
    // Count years from March, so that a leap day is their last. 400 years have 146,097 days.
    let day = day + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = match month {
        0..=9 => (400 * era + year, month + 3),
        _ => (400 * era + year + 1, month - 9),
    };
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_of_the_calendar() {
        assert_eq!(date_and_time(0), "1970-01-01T000000Z");
        assert_eq!(date_and_time(951_782_399), "2000-02-28T235959Z");
        assert_eq!(date_and_time(951_782_400), "2000-02-29T000000Z");
        assert_eq!(date_and_time(1_735_689_599), "2024-12-31T235959Z");
        assert_eq!(date_and_time(1_735_689_600), "2025-01-01T000000Z");
        assert_eq!(date_and_time(4_107_542_400), "2100-03-01T000000Z");
    }

    #[test]
    fn a_field_is_the_first_of_its_name() {
        let text = "processor\t: 0\nmodel name\t: A: B\nmodel name\t: C\n";
        assert_eq!(field(text, "model name").as_deref(), Some("A: B"));
        assert_eq!(field(text, "model"), None);
    }
}
