//! From stdin to the peers.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes, BytesMut};
use coalescent::codec::Codec;
use coalescent::{BATCH, Config, Mesh, PAYLOAD_COST, Sent, Stats, Wire};
use tokio::sync::mpsc;

use crate::line;
use crate::stderr::Stderr;
use crate::streams::Stream;

/// How much is read at once, and so how much of stdin waits for the peers, times [`CHUNKS`] and
/// two.
const CHUNK: usize = 64 * 1024;

/// How many chunks may wait between the thread that reads and the mesh.
const CHUNKS: usize = 2;

/// How many bytes a character of JSON can take in a line, for each byte it takes in a frame.
const JSON_WIDTH: usize = 12;

/// What text may begin with, to say that it is UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// How far stdin has come. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Progress(Arc<Mutex<Said>>);

/// What has become of stdin.
#[derive(Clone, Copy, Default)]
pub(crate) struct Said {
    /// Enough peers were there to begin.
    begun: bool,
    /// The last of it is queued for a peer.
    ended: bool,
    /// How many lines were not sent.
    refused: u64,
}

impl Progress {
    fn said(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has become of stdin so far.
    pub(crate) fn so_far(&self) -> Said {
        *self.said()
    }
}

impl Said {
    /// Says in words what of stdin was not written to a peer, or what was dropped of what was said
    /// to it, if there is any.
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

/// What stdin is read for.
pub(crate) struct Input {
    pub(crate) codec: Option<Codec>,
    /// How many peers must be connected before a byte is read.
    pub(crate) peers: usize,
}

/// Broadcasts all of stdin. Not a byte is read before enough peers are connected.
pub(crate) async fn run(mesh: Mesh, input: Input, stderr: Stderr, progress: Progress) {
    connected(&mesh, input.peers).await;
    progress.said().begun = true;
    if send_all(&mesh, input.codec, &stderr, &progress).await {
        progress.said().ended = true;
    }
}

/// Sends what comes from stdin; returns whether that was all of it.
async fn send_all(mesh: &Mesh, codec: Option<Codec>, stderr: &Stderr, progress: &Progress) -> bool {
    let config = mesh.peers().config().clone();
    let mut chunks = read();
    let mut group = Group::default();
    if config.wire == Wire::raw() && codec.is_none() {
        while let Some(mut chunk) = chunks.next(stderr).await {
            while !chunk.is_empty() {
                let frame = chunk.split_to(chunk.len().min(config.max_frame));
                if !group.has_room(&frame) {
                    group.send(mesh).await;
                }
                group.add(frame);
            }
            group.send(mesh).await;
        }
        return !chunks.failed;
    }
    let max_line = match codec {
        None => config.max_frame,
        Some(_) => config.max_frame.saturating_mul(JSON_WIDTH),
    };
    let mut lines = Lines::new(max_line);
    loop {
        let chunk = chunks.next(stderr).await;
        let end = chunk.is_none();
        lines.feed(chunk.unwrap_or_default(), end);
        while let Some((number, text)) = lines.next() {
            let frame = match (&codec, text) {
                // On a wire of lines an empty line is no frame.
                (None, Some(text)) if text.is_empty() && config.wire == Wire::lines() => continue,
                (_, None) => Err(format!("it is longer than {max_line} bytes, the limit")),
                (None, Some(text)) => Ok(text),
                (Some(codec), Some(text)) => encode(codec, &text, &config),
            };
            match frame {
                Ok(frame) => {
                    if !group.has_room(&frame) {
                        group.send(mesh).await;
                    }
                    group.add(frame);
                }
                Err(why) => {
                    progress.said().refused += 1;
                    stderr.report(&format!("line {number} of stdin is not sent: {why}"));
                }
            }
        }
        // The next lines may be long in coming.
        group.send(mesh).await;
        if end {
            return !chunks.failed;
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

/// Frames that are broadcast together: no more than the peers that are there at one moment get all
/// of.
#[derive(Default)]
struct Group {
    frames: Vec<Bytes>,
    size: usize,
}

impl Group {
    fn has_room(&self, frame: &Bytes) -> bool {
        self.size + frame.len() + PAYLOAD_COST <= BATCH
    }

    fn add(&mut self, frame: Bytes) {
        self.size += frame.len() + PAYLOAD_COST;
        self.frames.push(frame);
    }

    /// Sends the frames to all peers; those that nobody took, because all left before, to the next
    /// one that comes.
    async fn send(&mut self, mesh: &Mesh) {
        let mut rest = self.frames.as_slice();
        while !rest.is_empty() {
            connected(mesh, 1).await;
            let before = mesh.peers().list();
            let sent = mesh.broadcast_payloads(rest).await;
            let after = mesh.peers().list();
            if after.iter().any(|peer| before.contains(peer)) {
                // Who stays has all of it.
                break;
            }
            rest = rest.get(taken(sent, rest.len())..).unwrap_or_default();
        }
        self.frames.clear();
        self.size = 0;
    }
}

/// How many of so many frames one peer has taken at least, where all have left since.
///
/// Each took the first of them. Of several nobody knows which took the most, but it was no less
/// than the mean: so some frames may be sent once more, and none is left out.
fn taken(sent: Sent, frames: usize) -> usize {
    let peers = (sent.queued + sent.dropped) / frames;
    sent.queued.div_ceil(peers.max(1))
}

/// Waits until so many peers are connected.
async fn connected(mesh: &Mesh, peers: usize) {
    if mesh.peers().len() >= peers {
        return;
    }
    let mut events = mesh.events();
    while mesh.peers().len() < peers {
        if events.next().await.is_none() {
            // The mesh has ended: so will this task.
            std::future::pending::<()>().await;
        }
    }
}

/// What comes from stdin, and where it is read to again.
struct Chunks {
    read: mpsc::Receiver<io::Result<Bytes>>,
    spare: std::sync::mpsc::Sender<BytesMut>,
    last: Bytes,
    /// Stdin broke off before its end.
    failed: bool,
}

impl Chunks {
    /// Waits for the next chunk; `None` at the end. The memory of the one before is used again, if
    /// it is free.
    async fn next(&mut self, stderr: &Stderr) -> Option<Bytes> {
        if let Ok(spare) = std::mem::take(&mut self.last).try_into_mut() {
            // Without the thread there is nothing more to read.
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

/// Reads stdin in a thread of its own, as fast as the chunks are taken.
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

    /// The next line and its number; `None` in place of one that is too long. A byte order mark
    /// before the first is no part of it.
    fn next(&mut self) -> Option<(u64, Option<Bytes>)> {
        let line = match memchr::memchr(b'\n', &self.chunk) {
            Some(at) => {
                let line = self.chunk.split_to(at);
                self.chunk.advance(1);
                self.join(line)
            }
            None => {
                let rest = std::mem::take(&mut self.chunk);
                if !self.skipping && self.begun.len() + rest.len() <= self.room() {
                    self.begun.extend_from_slice(&rest);
                } else {
                    self.begun = BytesMut::new();
                    self.skipping = true;
                }
                let nothing =
                    self.begun.is_empty() || (self.number == 0 && self.begun == BYTE_ORDER_MARK);
                // The last line may lack its newline.
                if !self.end || (nothing && !self.skipping) {
                    return None;
                }
                self.join(Bytes::new())
            }
        };
        self.number += 1;
        Some((self.number, line))
    }

    /// How long a line may be as it was read.
    fn room(&self) -> usize {
        let mark = if self.number == 0 {
            BYTE_ORDER_MARK.len()
        } else {
            0
        };
        self.max.saturating_add(mark)
    }

    fn join(&mut self, line: Bytes) -> Option<Bytes> {
        let skipped = std::mem::take(&mut self.skipping);
        if skipped || self.begun.len() + line.len() > self.room() {
            self.begun = BytesMut::new();
            return None;
        }
        let mut whole = if self.begun.is_empty() {
            line
        } else {
            self.begun.extend_from_slice(&line);
            self.begun.split().freeze()
        };
        if self.number == 0 && whole.starts_with(BYTE_ORDER_MARK) {
            whole.advance(BYTE_ORDER_MARK.len());
        }
        (whole.len() <= self.max).then_some(whole)
    }
}
