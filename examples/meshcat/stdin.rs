//! From stdin to the peers.

use crate::line;
use crate::stderr::Stderr;
use bytes::{Bytes, BytesMut};
use coalescent::codec::Codec;
use coalescent::{Mesh, Wire};
use std::io::{self, Read};
use tokio::sync::mpsc;

/// How much is read at once, and so how much of stdin waits for the peers, times [`CHUNKS`] and two.
const CHUNK: usize = 64 * 1024;

/// How many chunks may wait between the thread that reads and the mesh.
const CHUNKS: usize = 2;

/// How many bytes a character of JSON can take in a line, for each byte it takes in a frame.
const JSON_WIDTH: usize = 12;

/// Broadcasts all of stdin. Not a byte is read before a peer is connected.
pub(crate) async fn run(mesh: Mesh, codec: Option<Codec>, stderr: Stderr) {
    someone(&mesh).await;
    let config = mesh.peers().config().clone();
    let mut chunks = read(stderr.clone());
    if config.wire == Wire::raw() && codec.is_none() {
        while let Some(mut chunk) = chunks.recv().await {
            while !chunk.is_empty() {
                let frame = chunk.split_to(chunk.len().min(config.max_frame));
                broadcast(&mesh, frame).await;
            }
        }
        return;
    }
    let max_line = match codec {
        None => config.max_frame,
        Some(_) => config.max_frame.saturating_mul(JSON_WIDTH),
    };
    let mut lines = Lines::new(max_line);
    loop {
        let chunk = chunks.recv().await;
        let end = chunk.is_none();
        lines.feed(chunk.unwrap_or_default(), end);
        while let Some((number, text)) = lines.next() {
            let frame = match (&codec, text) {
                // On a wire of lines an empty line is no frame.
                (None, Some(text)) if text.is_empty() && config.wire == Wire::lines() => continue,
                (_, None) => Err(format!("it is longer than {max_line} bytes, the limit")),
                (None, Some(text)) => Ok(text),
                (Some(codec), Some(text)) => encode(codec, &text, config.max_frame),
            };
            match frame {
                Ok(frame) => broadcast(&mesh, frame).await,
                Err(why) => stderr.report(&format!("line {number} of stdin is not sent: {why}")),
            }
        }
        if end {
            return;
        }
    }
}

fn encode(codec: &Codec, text: &[u8], max_frame: usize) -> Result<Bytes, String> {
    let message = line::parse(text)?;
    let frame = codec.encode(&message).map_err(|error| error.to_string())?;
    if frame.len() > max_frame {
        return Err(format!(
            "as a message it is longer than {max_frame} bytes, the limit"
        ));
    }
    Ok(frame)
}

/// Sends a frame to all peers; to the next one that comes, where all left before they took it.
async fn broadcast(mesh: &Mesh, frame: Bytes) {
    loop {
        let sent = mesh.broadcast_payload(frame.clone()).await;
        if sent.queued > 0 || !mesh.peers().is_empty() {
            return;
        }
        someone(mesh).await;
    }
}

/// Waits until a peer is connected.
async fn someone(mesh: &Mesh) {
    let mut events = mesh.events();
    while mesh.peers().is_empty() {
        if events.next().await.is_none() {
            // The mesh has ended: so will this task.
            std::future::pending::<()>().await;
        }
    }
}

/// Reads stdin in a thread of its own, as fast as the chunks are taken.
fn read(stderr: Stderr) -> mpsc::Receiver<Bytes> {
    let (sender, chunks) = mpsc::channel(CHUNKS);
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        loop {
            let mut chunk = vec![0; CHUNK];
            match stdin.read(&mut chunk) {
                Ok(0) => return,
                Ok(length) => chunk.truncate(length),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return stderr.report(&format!("cannot read stdin: {error}")),
            }
            if sender.blocking_send(Bytes::from(chunk)).is_err() {
                return;
            }
        }
    });
    chunks
}

/// Cuts chunks into lines.
struct Lines {
    max: usize,
    chunk: Bytes,
    end: bool,
    /// The beginning of a line, from the chunks before.
    begun: BytesMut,
    /// Whether the line was too long already, and its rest is skipped.
    skipping: bool,
    number: u64,
}

impl Lines {
    fn new(max: usize) -> Self {
        Self {
            max,
            chunk: Bytes::new(),
            end: false,
            begun: BytesMut::new(),
            skipping: false,
            number: 0,
        }
    }

    fn feed(&mut self, chunk: Bytes, end: bool) {
        self.chunk = chunk;
        self.end = end;
    }

    /// The next line and its number; `None` in place of one that is too long.
    fn next(&mut self) -> Option<(u64, Option<Bytes>)> {
        let line = match memchr::memchr(b'\n', &self.chunk) {
            Some(at) => {
                let line = self.chunk.split_to(at);
                drop(self.chunk.split_to(1));
                self.join(line)
            }
            None => {
                let rest = std::mem::take(&mut self.chunk);
                if !self.skipping && self.begun.len() + rest.len() <= self.max {
                    self.begun.extend_from_slice(&rest);
                } else {
                    self.begun = BytesMut::new();
                    self.skipping = true;
                }
                // The last line may lack its newline.
                if !self.end || (self.begun.is_empty() && !self.skipping) {
                    return None;
                }
                self.join(Bytes::new())
            }
        };
        self.number += 1;
        Some((self.number, line))
    }

    fn join(&mut self, line: Bytes) -> Option<Bytes> {
        let skipped = std::mem::take(&mut self.skipping);
        if skipped || self.begun.len() + line.len() > self.max {
            self.begun = BytesMut::new();
            return None;
        }
        if self.begun.is_empty() {
            return Some(line);
        }
        self.begun.extend_from_slice(&line);
        Some(self.begun.split().freeze())
    }
}
