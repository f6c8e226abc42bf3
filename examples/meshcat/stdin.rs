//! Broadcasting stdin to the peers.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use coalescent::codec::Codec;
use coalescent::{BATCH, Config, Mesh, PAYLOAD_COST, Sent, Stats, Wire};
use tokio::sync::mpsc;

use crate::line;
use crate::lines::Lines;
use crate::stderr::Stderr;
use crate::streams::Stream;

/// Size of one read, in bytes. Together with [`CHUNKS`] it bounds how much of stdin is buffered:
/// `CHUNK * (CHUNKS + 2)`.
const CHUNK: usize = 64 * 1024;

/// Number of chunks queued between the reading thread and the mesh.
const CHUNKS: usize = 2;

/// Maximum number of bytes in a line of JSON for one byte in an encoded message.
const JSON_WIDTH: usize = 12;

/// The shared progress of reading stdin. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Progress(Arc<Mutex<Said>>);

/// How much of stdin has been read and sent.
#[derive(Clone, Copy, Default)]
pub(crate) struct Said {
    /// Set once enough peers were connected to begin.
    begun: bool,
    /// Set once the end of stdin has been queued for a peer.
    ended: bool,
    /// Number of lines that could not be sent.
    refused: u64,
}

impl Progress {
    fn said(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a snapshot of the progress.
    pub(crate) fn so_far(&self) -> Said {
        *self.said()
    }
}

impl Said {
    /// Describes which part of stdin was not written to a peer, or was dropped; `None` if
    /// everything was written.
    pub(crate) fn missing(&self, stats: &Stats) -> Option<String> {
        let mut parts = Vec::new();
        if !self.begun {
            parts.push("it was not read, as too few peers were connected".to_owned());
        } else if !self.ended {
            parts.push("it was not read to its end".to_owned());
        }
        if self.refused > 0 {
            parts.push(format!("{} of its lines were not sent", self.refused));
        }
        if stats.dropped > 0 {
            parts.push(format!(
                "{} frames were dropped, that peers did not get",
                stats.dropped
            ));
        }
        let parts = parts.join("; ");
        (!parts.is_empty()).then(|| format!("not all of stdin was written: {parts}"))
    }
}

/// Waits until so many `peers` are connected, then broadcasts all of stdin.
pub(crate) async fn run(mesh: Mesh, peers: usize, stderr: Stderr, progress: Progress) {
    connected(&mesh, peers).await;
    progress.said().begun = true;
    // The courier's, which may sign.
    let codec = mesh.peers().codec().ok();
    if send_all(&mesh, codec.as_deref(), &stderr, &progress).await {
        progress.said().ended = true;
    }
}

/// Broadcasts stdin to its end. Returns whether all of it could be read.
async fn send_all(
    mesh: &Mesh,
    codec: Option<&Codec>,
    stderr: &Stderr,
    progress: &Progress,
) -> bool {
    let mut chunks = read();
    if mesh.peers().config().wire == Wire::raw() && codec.is_none() {
        send_bytes(mesh, &mut chunks, stderr).await;
    } else {
        send_lines(mesh, codec, &mut chunks, stderr, progress).await;
    }
    !chunks.failed
}

/// Broadcasts stdin as bytes, in frames that do not follow its lines.
async fn send_bytes(mesh: &Mesh, chunks: &mut Chunks, stderr: &Stderr) {
    let max_frame = mesh.peers().config().max_frame;
    let mut group = Group::default();
    while let Some(mut chunk) = chunks.next(stderr).await {
        while !chunk.is_empty() {
            let frame = chunk.split_to(chunk.len().min(max_frame));
            group.push(frame, mesh, stderr).await;
        }
        group.send(mesh, stderr).await;
    }
}

/// Broadcasts each line of stdin as a frame.
async fn send_lines(
    mesh: &Mesh,
    codec: Option<&Codec>,
    chunks: &mut Chunks,
    stderr: &Stderr,
    progress: &Progress,
) {
    let config = mesh.peers().config().clone();
    let max_line = match codec {
        None => config.max_frame,
        Some(_) => config.max_frame.saturating_mul(JSON_WIDTH),
    };
    let mut lines = Lines::new(max_line);
    let mut group = Group::default();
    loop {
        let chunk = chunks.next(stderr).await;
        let end = chunk.is_none();
        lines.feed(chunk.unwrap_or_default(), end);
        while let Some((number, text)) = lines.next() {
            let frame = match (codec, text) {
                // The `lines` wire has no empty frames.
                (None, Some(text)) if text.is_empty() && config.wire == Wire::lines() => continue,
                (_, None) => Err(format!("it is longer than {max_line} bytes, the limit")),
                (None, Some(text)) => Ok(text),
                (Some(codec), Some(text)) => encode(codec, &text, &config),
            };
            match frame {
                Ok(frame) => group.push(frame, mesh, stderr).await,
                Err(why) => {
                    progress.said().refused += 1;
                    stderr.report(&format!("line {number} of stdin is not sent: {why}"));
                }
            }
        }
        // Send now: the next chunk may take long to arrive.
        group.send(mesh, stderr).await;
        if end {
            return;
        }
    }
}

fn encode(codec: &Codec, text: &[u8], config: &Config) -> Result<Bytes, String> {
    let message = line::parse(text)?;
    let frame = codec.encode(&message).map_err(|error| error.to_string())?;
    let max_frame = config.max_frame;
    if frame.len() > max_frame {
        return Err(format!(
            "as a message it is longer than {max_frame} bytes, the limit"
        ));
    }
    if config.wire == Wire::lines() && memchr::memchr(b'\n', &frame).is_some() {
        return Err("as a message it holds a newline, which ends it on a wire of lines".to_owned());
    }
    Ok(frame)
}

/// Frames that are broadcast together. The size is limited to what peers that are connected at one
/// moment receive as a whole.
#[derive(Default)]
struct Group {
    frames: Vec<Bytes>,
    size: usize,
}

impl Group {
    /// Adds a frame, after sending the others if the group is full.
    async fn push(&mut self, frame: Bytes, mesh: &Mesh, stderr: &Stderr) {
        let cost = frame.len() + PAYLOAD_COST;
        if self.size + cost > BATCH {
            self.send(mesh, stderr).await;
        }
        self.size += cost;
        self.frames.push(frame);
    }

    /// Sends the frames to all peers. If all peers leave meanwhile, the frames that no peer
    /// received are sent to the next peer that connects.
    async fn send(&mut self, mesh: &Mesh, stderr: &Stderr) {
        let mut rest = self.frames.as_slice();
        while !rest.is_empty() {
            connected(mesh, 1).await;
            let before = mesh.peers().list();
            let mut sent = Sent::default();
            let mut frames = rest.iter();
            while frames.len() > 0 {
                match mesh.broadcast_payloads(frames.by_ref()).await {
                    Ok(some) => sent += some,
                    // The frames behind it are sent all the same.
                    Err(error) => {
                        stderr.report(&format!("a frame of stdin is not sent: {}", error.report()));
                    }
                }
            }
            let after = mesh.peers().list();
            if after.iter().any(|peer| before.contains(peer)) {
                // A peer that stayed connected receives all frames.
                break;
            }
            rest = rest.get(taken(sent, rest.len())..).unwrap_or_default();
        }
        self.frames.clear();
        self.size = 0;
    }
}

/// Returns a lower bound of the frames that one peer has received, if all peers have left since.
///
/// Each peer received some first part of the frames. Which peer received the most is unknown, but
/// it received at least the mean. Some frames may be sent twice, but none is lost.
fn taken(sent: Sent, frames: usize) -> usize {
    let peers = (sent.queued + sent.dropped) / frames;
    sent.queued.div_ceil(peers.max(1))
}

/// Waits until `peers` peers are connected.
async fn connected(mesh: &Mesh, peers: usize) {
    if mesh.connected(peers).await.is_err() {
        // The mesh has ended, and this task is about to be aborted.
        std::future::pending::<()>().await;
    }
}

/// The chunks read from stdin, and the way back for buffers to be reused.
struct Chunks {
    read: mpsc::Receiver<io::Result<Bytes>>,
    spare: std::sync::mpsc::Sender<BytesMut>,
    last: Bytes,
    /// Set if reading stdin failed before its end.
    failed: bool,
}

impl Chunks {
    /// Waits for the next chunk; returns `None` at the end. Reuses the previous chunk's memory if
    /// no frame refers to it any more.
    async fn next(&mut self, stderr: &Stderr) -> Option<Bytes> {
        if let Ok(spare) = std::mem::take(&mut self.last).try_into_mut() {
            // An error means that the thread has ended and needs no buffer.
            let _ = self.spare.send(spare);
        }
        match self.read.recv().await? {
            Ok(chunk) => {
                self.last = chunk.clone();
                Some(chunk)
            }
            Err(error) => {
                self.failed = true;
                stderr.report(&format!("cannot read stdin: {error}"));
                None
            }
        }
    }
}

/// Reads stdin in a separate thread, no faster than the chunks are consumed.
fn read() -> Chunks {
    let (sender, read) = mpsc::channel(CHUNKS);
    let (spare, spares) = std::sync::mpsc::channel::<BytesMut>();
    std::thread::spawn(move || {
        let mut stdin = Stream::stdin();
        loop {
            let mut chunk = spares.try_recv().unwrap_or_default();
            chunk.resize(CHUNK, 0);
            let result = match &mut stdin {
                Ok(stdin) => stdin.read(&mut chunk),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            };
            let chunk = match result {
                Ok(0) => return,
                Ok(length) => {
                    chunk.truncate(length);
                    Ok(chunk.freeze())
                }
                Err(error) => Err(error),
            };
            let last = chunk.is_err();
            if sender.blocking_send(chunk).is_err() || last {
                return;
            }
        }
    });
    Chunks {
        read,
        spare,
        last: Bytes::new(),
        failed: false,
    }
}
