//! What goes to stderr: the log, or events, and reports of what could not be done.
//!
//! A thread of its own writes it, so that a terminal that is stopped stops nothing else.

use crate::events;
use crate::streams::Stream;
use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How many lines may wait to be written; what does not fit is left out.
const LINES: usize = 4096;

/// How long leaving waits for what was said last.
const LAST_WORDS: Duration = Duration::from_secs(1);

enum Item {
    Line(Vec<u8>),
    End(SyncSender<()>),
}

/// The way to stderr. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Stderr {
    lines: SyncSender<Item>,
    events: bool,
}

impl Stderr {
    /// Starts the thread, and the log, unless `events` take its place.
    pub(crate) fn start(events: bool) -> Self {
        let (lines, waiting) = mpsc::sync_channel(LINES);
        std::thread::spawn(move || write_all(&waiting));
        let stderr = Self { lines, events };
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

    /// Whether events take the place of the log.
    pub(crate) fn shows_events(&self) -> bool {
        self.events
    }

    /// Says on one line what could not be done.
    pub(crate) fn report(&self, text: &str) {
        if self.events {
            self.line(events::error(text));
        } else {
            self.line(format!("meshcat: {text}"));
        }
    }

    /// Writes a line.
    pub(crate) fn line(&self, mut line: String) {
        line.push('\n');
        let _ = self.lines.try_send(Item::Line(line.into_bytes()));
    }

    /// Waits until all is written, for a moment.
    pub(crate) fn finish(&self) {
        let (done, finished) = mpsc::sync_channel(1);
        let end = std::time::Instant::now() + LAST_WORDS;
        let mut item = Item::End(done);
        while let Err(mpsc::TrySendError::Full(back)) = self.lines.try_send(item) {
            if std::time::Instant::now() > end {
                return;
            }
            item = back;
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = finished.recv_timeout(LAST_WORDS);
    }
}

fn write_all(waiting: &Receiver<Item>) {
    let mut stderr = Stream::stderr();
    for item in waiting {
        match item {
            // There is no place left to tell of a stderr that is gone.
            Item::Line(line) => drop(stderr.as_mut().map(|stderr| stderr.write_all(&line))),
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
        let _ = self.lines.try_send(Item::Line(line.to_vec()));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
