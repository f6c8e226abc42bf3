//! The output of a process: lines of stdout, and the last line of stderr.

use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long to wait for the last words of a process that has ended.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The longest line that is read from a process.
const LONGEST_LINE: u64 = 64 * 1024;

/// Lines of a process that are buffered.
const LINES: usize = 16;

/// Returns any text as one line of bounded length.
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

/// Reads a line of bounded length. A longer one comes in parts.
fn read_line(from: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    let read = from.take(LONGEST_LINE).read_until(b'\n', &mut line).ok()?;
    (read > 0).then(|| String::from_utf8_lossy(&line).trim_end().to_owned())
}

/// Returns the lines of a stream. A process that prints more than is read has to wait.
pub(crate) fn listen(stdout: Option<impl Read + Send + 'static>) -> Receiver<String> {
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
pub(crate) struct LastWords {
    line: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl LastWords {
    /// Reads a stream in a thread.
    pub(crate) fn of(stderr: Option<impl Read + Send + 'static>) -> LastWords {
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

    /// Returns the last line of a process that may still run.
    pub(crate) fn so_far(&self) -> String {
        self.line
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns the last line of a process that has ended.
    pub(crate) fn hear(&self) -> String {
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

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

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
