//! Writing to stderr: the log or events, and error reports.
//!
//! A separate thread writes, so that a stopped terminal blocks nothing else.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::events;
use crate::streams::Stream;

/// Number of lines that may be queued; further lines are dropped and counted.
const LINES: usize = 4096;

/// How long to wait at the end until the last lines are written.
const LAST_WORDS: Duration = Duration::from_secs(1);

enum Item {
    Line(Vec<u8>),
    End(SyncSender<()>),
}

/// A handle to the thread that writes to stderr. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Stderr {
    lines: SyncSender<Item>,
    events: bool,
    left_out: Arc<AtomicU64>,
}

impl Stderr {
    /// Starts the thread and, unless `events` replace it, the log.
    pub(crate) fn start(events: bool) -> Self {
        let (lines, waiting) = mpsc::sync_channel(LINES);
        let left_out = Arc::new(AtomicU64::new(0));
        let stderr = Self {
            lines,
            events,
            left_out: Arc::clone(&left_out),
        };
        std::thread::spawn(move || write_all(&waiting, &left_out, events));
        if !events {
            let filter =
                EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
            tracing_subscriber::fmt()
                .with_env_filter(filter)
                .with_writer(stderr.clone())
                .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
                .log_internal_errors(false)
                .init();
        }
        stderr
    }

    /// Returns whether events replace the log.
    pub(crate) fn shows_events(&self) -> bool {
        self.events
    }

    /// Reports an error on one line.
    pub(crate) fn report(&self, text: &str) {
        self.put(self.reported(text));
    }

    fn reported(&self, text: &str) -> Vec<u8> {
        line_of(if self.events {
            events::error(text)
        } else {
            format!("meshcat: {text}")
        })
    }

    /// Writes a line.
    pub(crate) fn line(&self, line: String) {
        self.put(line_of(line));
    }

    /// Reports an error at the end. If the queue is full, waits briefly for room.
    pub(crate) fn last_report(&self, text: &str) {
        self.put_last(Item::Line(self.reported(text)));
    }

    /// Writes a line at the end, like [`Stderr::last_report`].
    pub(crate) fn last_line(&self, line: String) {
        self.put_last(Item::Line(line_of(line)));
    }

    fn put_last(&self, mut item: Item) {
        let end = std::time::Instant::now() + LAST_WORDS;
        while let Err(mpsc::TrySendError::Full(back)) = self.lines.try_send(item) {
            if std::time::Instant::now() > end {
                return;
            }
            item = back;
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn put(&self, line: Vec<u8>) {
        if self.lines.try_send(Item::Line(line)).is_err() {
            self.left_out.fetch_add(1, Relaxed);
        }
    }

    /// Waits briefly until the queue has been written.
    pub(crate) fn finish(&self) {
        let (done, finished) = mpsc::sync_channel(1);
        self.put_last(Item::End(done));
        let _ = finished.recv_timeout(LAST_WORDS);
    }
}

fn line_of(mut text: String) -> Vec<u8> {
    text.push('\n');
    text.into_bytes()
}

fn write_all(waiting: &Receiver<Item>, left_out: &AtomicU64, events: bool) {
    let mut stderr = Stream::stderr();
    // Ignore errors: there is nowhere left to report them.
    let mut write = |line: &[u8]| drop(stderr.as_mut().map(|stderr| stderr.write_all(line)));
    for item in waiting {
        let missed = left_out.swap(0, Relaxed);
        if missed > 0 && events {
            write(format!("{}\n", events::missed(missed)).as_bytes());
        } else if missed > 0 {
            write(
                format!("meshcat: {missed} lines were left out here, or soon before or after\n")
                    .as_bytes(),
            );
        }
        match item {
            Item::Line(line) => write(&line),
            Item::End(done) => drop(done.send(())),
        }
    }
}

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
