//! From the peers to stdout.

use std::io::{self, Write};

use coalescent::{Frame, MeshReader, Wire};
use tokio::sync::{mpsc, oneshot};

use crate::line;
use crate::stderr::Stderr;
use crate::streams::Stream;

/// About how much is written at once, if there is so much.
const BATCH: usize = 64 * 1024;

/// How many batches may wait for stdout; then the peers are held back.
const BATCHES: usize = 2;

/// How frames are written.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    Lines,
    Bytes,
    Messages,
}

impl Form {
    pub(crate) fn new(wire: &Wire, codec: bool) -> Self {
        match (codec, *wire == Wire::raw()) {
            (true, _) => Self::Messages,
            (false, true) => Self::Bytes,
            (false, false) => Self::Lines,
        }
    }
}

/// Writes what peers send, until the mesh has ended and all of it is written, or stdout breaks.
/// Then the frames are discarded, and the mesh goes on.
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
        Form::Messages => {
            // The courier lets nothing else through.
            let Some(message) = frame.message() else {
                return;
            };
            match line::write(message, out) {
                Ok(()) => out.push(b'\n'),
                Err(error) => stderr.report(&format!("a message cannot be written: {error}")),
            }
        }
    }
}
