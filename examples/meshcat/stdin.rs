//! From stdin to the peers.

use crate::line;
use crate::stderr::Stderr;
use bytes::{Buf, Bytes, BytesMut};
use coalescent::codec::Codec;
use coalescent::{BATCH, Config, Mesh, PAYLOAD_COST, Sent, Wire};
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
    let mut group = Group::default();
    if config.wire == Wire::raw() && codec.is_none() {
        while let Some(mut chunk) = chunks.next().await {
            while !chunk.is_empty() {
                let frame = chunk.split_to(chunk.len().min(config.max_frame));
                if !group.has_room(&frame) {
                    group.send(&mesh).await;
                }
                group.add(frame);
            }
            group.send(&mesh).await;
        }
        return;
    }
    let max_line = match codec {
        None => config.max_frame,
        Some(_) => config.max_frame.saturating_mul(JSON_WIDTH),
    };
    let mut lines = Lines::new(max_line);
    loop {
        let chunk = chunks.next().await;
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
                        group.send(&mesh).await;
                    }
                    group.add(frame);
                }
                Err(why) => stderr.report(&format!("line {number} of stdin is not sent: {why}")),
            }
        }
        // The next lines may be long in coming.
        group.send(&mesh).await;
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

/// Frames that are broadcast together: no more than the peers that are there at one moment get all of.
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

    /// Sends the frames to all peers; those that nobody took, because all left before, to the next one that comes.
    async fn send(&mut self, mesh: &Mesh) {
        let mut rest = self.frames.as_slice();
        while !rest.is_empty() {
            someone(mesh).await;
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
/// Each took the first of them. Of several nobody knows which took the most, but it was no less than the mean: so
/// some frames may be sent once more, and none is left out.
fn taken(sent: Sent, frames: usize) -> usize {
    let peers = (sent.queued + sent.dropped) / frames;
    sent.queued.div_ceil(peers.max(1))
}

/// Waits until a peer is connected.
async fn someone(mesh: &Mesh) {
    if !mesh.peers().is_empty() {
        return;
    }
    let mut events = mesh.events();
    while mesh.peers().is_empty() {
        if events.next().await.is_none() {
            // The mesh has ended: so will this task.
            std::future::pending::<()>().await;
        }
    }
}

/// What comes from stdin, and where it is read to again.
struct Chunks {
    read: mpsc::Receiver<Bytes>,
    spare: std::sync::mpsc::Sender<BytesMut>,
    last: Bytes,
}

impl Chunks {
    /// Waits for the next chunk; `None` at the end. The memory of the one before is used again, if it is free.
    async fn next(&mut self) -> Option<Bytes> {
        if let Ok(spare) = std::mem::take(&mut self.last).try_into_mut() {
            // Without the thread there is nothing more to read.
            let _ = self.spare.send(spare);
        }
        let chunk = self.read.recv().await?;
        self.last = chunk.clone();
        Some(chunk)
    }
}

/// Reads stdin in a thread of its own, as fast as the chunks are taken.
fn read(stderr: Stderr) -> Chunks {
    let (sender, read) = mpsc::channel(CHUNKS);
    let (spare, spares) = std::sync::mpsc::channel::<BytesMut>();
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        loop {
            let mut chunk = spares.try_recv().unwrap_or_default();
            chunk.resize(CHUNK, 0);
            match stdin.read(&mut chunk) {
                Ok(0) => return,
                Ok(length) => chunk.truncate(length),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return stderr.report(&format!("cannot read stdin: {error}")),
            }
            if sender.blocking_send(chunk.freeze()).is_err() {
                return;
            }
        }
    });
    Chunks {
        read,
        spare,
        last: Bytes::new(),
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

    /// The next line and its number; `None` in place of one that is too long.
    fn next(&mut self) -> Option<(u64, Option<Bytes>)> {
        let line = match memchr::memchr(b'\n', &self.chunk) {
            Some(at) => {
                let line = self.chunk.split_to(at);
                self.chunk.advance(1);
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
