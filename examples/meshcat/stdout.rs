//! Writing the frames of peers to stdout.

use std::io::{self, Write};

use coalescent::{Frame, MeshReader, Wire};
use tokio::sync::{mpsc, oneshot};

use crate::line;
use crate::stderr::Stderr;
use crate::streams::Stream;

/// Target size of one write, in bytes.
const BATCH: usize = 64 * 1024;

/// Number of batches that may be queued for stdout; beyond it, reading from peers pauses.
const BATCHES: usize = 2;

/// The output format of frames.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    Lines,
    Bytes,
    Messages,
    /// Messages, each with its author.
    Authors,
}

impl Form {
    pub(crate) fn new(wire: &Wire, codec: bool, authors: bool) -> Self {
        match (codec, *wire == Wire::raw()) {
            (true, _) if authors => Self::Authors,
            (true, _) => Self::Messages,
            (false, true) => Self::Bytes,
            (false, false) => Self::Lines,
        }
    }
}

/// Writes the frames of peers until the mesh ends and all of them are written. If stdout fails, the
/// mesh continues and frames are discarded.
pub(crate) async fn run(mut reader: MeshReader, form: Form, stderr: Stderr) {
    let (batches, waiting) = mpsc::channel(BATCHES);
    let (done, written) = oneshot::channel();
    let reports = stderr.clone();
    std::thread::spawn(move || {
        if let Err(error) = write_all(waiting) {
            reports.report(&format!(
                "cannot write to stdout: {error}; going on without it"
            ));
        }
        let _ = done.send(());
    });
    while let Some(frame) = reader.next_frame().await {
        let mut batch = Vec::with_capacity(BATCH);
        append(&frame, form, &stderr, &mut batch);
        while batch.len() < BATCH {
            let Some(frame) = reader.try_next_frame() else {
                break;
            };
            append(&frame, form, &stderr, &mut batch);
        }
        if batches.send(batch).await.is_err() {
            break;
        }
    }
    drop((reader, batches));
    let _ = written.await;
}

fn write_all(mut batches: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    let mut stdout = Stream::stdout()?;
    while let Some(batch) = batches.blocking_recv() {
        stdout.write_all(&batch)?;
    }
    Ok(())
}

fn append(frame: &Frame, form: Form, stderr: &Stderr, out: &mut Vec<u8>) {
    match form {
        Form::Bytes => out.extend_from_slice(frame.payload()),
        Form::Lines => {
            out.extend_from_slice(frame.payload());
            out.push(b'\n');
        }
        Form::Messages | Form::Authors => {
            // The courier passes only frames that have a message.
            let Some(message) = frame.message() else {
                return;
            };
            let start = out.len();
            if matches!(form, Form::Authors) {
                let author = frame.author().map(|author| author.key().to_string());
                out.extend_from_slice(author.as_deref().unwrap_or("-").as_bytes());
                out.push(b' ');
            }
            match line::write(message, out) {
                Ok(()) => out.push(b'\n'),
                Err(error) => {
                    out.truncate(start);
                    stderr.report(&format!("a message cannot be written: {error}"));
                }
            }
        }
    }
}
