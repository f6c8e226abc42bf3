//! Publishers that send as fast as the hub takes it, and subscribers that count.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{sleep, timeout};

use super::framing::Wire;
use crate::options::Options;
use crate::report::{self, Failed};
use crate::wire;

/// About how much a publisher writes at once.
const WRITE: usize = 256 * 1024;
/// How much a subscriber reads at once.
const READ: usize = 256 * 1024;
/// How long a publisher waits for room before it looks whether it is to end.
const STUCK: Duration = Duration::from_millis(500);
/// How long all is waited for that was under way.
const DRAIN: Duration = Duration::from_secs(5);

thread_local! {
    /// All subscribers read into the same buffer: what they read is counted, and thrown away.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

/// The role that drives a hub.
///
/// # Errors
///
/// Where the hub is not there, goes, or passes nothing on.
pub async fn load(options: &Options) -> Result<(), Failed> {
    LocalSet::new().run_until(drive(options)).await
}

async fn drive(options: &Options) -> Result<(), Failed> {
    let wire = Wire::of(options)?;
    let frame = wire.len(options.size);
    let heard: Rc<Vec<Cell<u64>>> =
        Rc::new((0..options.subscribers).map(|_| Cell::new(0)).collect());
    let mut stalled = Vec::new();
    for _ in 0..options.stalled {
        stalled.push(wire.connect(&options.addr).await?);
    }
    for number in 0..options.subscribers {
        let stream = wire.connect(&options.addr).await?;
        let heard = Rc::clone(&heard);
        spawn_local(async move { count(&stream, &heard[number]).await });
    }
    let mut publishers = Vec::new();
    for number in 0..options.publishers {
        publishers.push(Publisher {
            stream: wire.connect(&options.addr).await?,
            wire,
            size: options.size,
            next: (number as u64) << 40,
            sent: 0,
        });
    }
    // Until the hub has taken all of them in: a probe that each subscriber hears.
    let first = publishers.first_mut().ok_or("a load needs a publisher")?;
    let probed = async {
        loop {
            first.probe().await?;
            sleep(Duration::from_millis(20)).await;
            if heard.iter().all(|heard| heard.get() > 0) {
                return Ok::<_, Failed>(());
            }
        }
    };
    timeout(Duration::from_secs(10), probed)
        .await
        .map_err(|_| "the hub passes nothing on: no probe was heard by all in 10 s")??;

    let stop = Rc::new(Cell::new(false));
    let tasks: Vec<_> = publishers
        .into_iter()
        .map(|publisher| spawn_local(publisher.publish(Rc::clone(&stop))))
        .collect();
    let all = || heard.iter().map(Cell::get).sum::<u64>();
    sleep(options.warmup).await;
    let (began, before) = (Instant::now(), all());
    sleep(options.seconds).await;
    let (took, bytes) = (began.elapsed(), all() - before);
    stop.set(true);
    let mut sent = 0;
    for task in tasks {
        sent += task.await??;
    }
    let wanted = sent * options.subscribers as u64;
    let drained = async {
        while all() < wanted {
            sleep(Duration::from_millis(5)).await;
        }
    };
    // A relay that drops for slow peers owes nothing; what is missing is reported.
    let _ = timeout(DRAIN, drained).await;
    drop(stalled);
    report::print(&json!({
        "deliveries": bytes / frame as u64,
        "seconds": took.as_secs_f64(),
        "lost": wanted.saturating_sub(all()) / frame as u64,
        "surplus": all().saturating_sub(wanted) / frame as u64,
    }));
    Ok(())
}

async fn count(stream: &TcpStream, heard: &Cell<u64>) -> std::io::Result<()> {
    loop {
        stream.readable().await?;
        match SCRATCH.with_borrow_mut(|scratch| stream.try_read(scratch)) {
            Ok(0) => return Ok(()),
            Ok(read) => heard.set(heard.get() + read as u64),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

struct Publisher {
    stream: TcpStream,
    wire: Wire,
    size: usize,
    /// The number of the next message.
    next: u64,
    /// How many bytes were sent.
    sent: u64,
}

impl Publisher {
    /// Sends one message.
    async fn probe(&mut self) -> Result<(), Failed> {
        let mut frames = self.frames(1);
        self.number(&mut frames);
        self.stream.write_all(&frames).await?;
        self.sent += frames.len() as u64;
        Ok(())
    }

    /// Sends until it is told to stop, and then says how many bytes that were.
    async fn publish(mut self, stop: Rc<Cell<bool>>) -> Result<u64, Failed> {
        let count = (WRITE / self.wire.len(self.size)).max(1);
        let mut frames = self.frames(count);
        let mut scratch = vec![0; 64 * 1024];
        while !stop.get() {
            self.number(&mut frames);
            let mut rest = &frames[..];
            // Not begun once it is to stop; but what was begun is ended.
            let begun = |rest: &[u8]| rest.len() < frames.len();
            while !rest.is_empty() && (begun(rest) || !stop.get()) {
                // A hub that stops for everyone must not keep this from ending.
                if timeout(STUCK, self.stream.writable()).await.is_err() {
                    if stop.get() {
                        return Ok(self.sent + (frames.len() - rest.len()) as u64);
                    }
                    continue;
                }
                match self.stream.try_write(rest) {
                    Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(format!("the hub has gone: {error}").into()),
                }
            }
            self.sent += (frames.len() - rest.len()) as u64;
            // What other publishers say is not for this one to count, but must not fill its socket.
            while matches!(self.stream.try_read(&mut scratch), Ok(read) if read > 0) {}
            // One thread is shared by all: the subscribers have their turn.
            tokio::task::yield_now().await;
        }
        let sent = self.sent;
        // The connection stays, since a peer that leaves costs a hub something.
        spawn_local(async move {
            let _stream = self.stream;
            pending::<()>().await;
        });
        Ok(sent)
    }

    /// Frames without their numbers.
    fn frames(&self, count: usize) -> BytesMut {
        let mut frames = BytesMut::new();
        let payload = vec![b'x'; self.size];
        for _ in 0..count {
            match self.wire {
                Wire::Native => wire::put(&mut frames, wire::BROADCAST, &[0; 8], &payload),
                Wire::Lines => {
                    frames.put_slice(&payload);
                    frames.put_u8(b'\n');
                }
                Wire::Raw => frames.put_slice(&payload),
            }
        }
        frames
    }

    /// Makes each message another: by its nonce, or, where there is none, by its first eight bytes.
    fn number(&mut self, frames: &mut [u8]) {
        for frame in frames.chunks_exact_mut(self.wire.len(self.size)) {
            self.next += 1;
            if self.wire == Wire::Native {
                if let Some(nonce) = frame.get_mut(wire::FIXED..wire::BROADCAST_PREFIX) {
                    nonce.copy_from_slice(&self.next.to_be_bytes());
                }
            } else {
                // Digits, so that no line ends early.
                let digits = format!("{:08x}", self.next as u32);
                if let Some(first) = frame.get_mut(..8) {
                    first.copy_from_slice(digits.as_bytes());
                }
            }
        }
    }
}
