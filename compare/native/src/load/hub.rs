//! Publishers that send as fast as the hub reads, and subscribers that count.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::{Duration, Instant};

use common::Failed;
use common::options::Options;
use common::report::print;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{sleep, timeout};

use super::framing::Wire;

/// About the bytes that a publisher writes at once.
const WRITE: usize = 256 * 1024;
/// Bytes that a subscriber reads at once.
const READ: usize = 256 * 1024;
/// How long a publisher waits for room before it checks whether it has to end.
const STUCK: Duration = Duration::from_millis(500);
/// How long the load waits for messages in flight at its end.
const DRAIN: Duration = Duration::from_secs(5);

thread_local! {
    /// The buffer of all subscribers, which count the bytes and discard them.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

/// The role that drives a hub.
///
/// # Errors
///
/// Where the hub cannot be reached, disconnects, or relays nothing.
pub async fn load(options: &Options) -> Result<(), Failed> {
    LocalSet::new().run_until(drive(options)).await
}

async fn drive(options: &Options) -> Result<(), Failed> {
    let (wire, addr) = (Wire::of(options)?, options.addr()?);
    let frame = wire.len(options.size);
    let heard: Rc<Vec<Cell<u64>>> =
        Rc::new((0..options.subscribers).map(|_| Cell::new(0)).collect());
    let mut stalled = Vec::new();
    for _ in 0..options.stalled {
        stalled.push(wire.connect(addr).await?);
    }
    for number in 0..options.subscribers {
        let stream = wire.connect(addr).await?;
        let heard = Rc::clone(&heard);
        spawn_local(async move { count(&stream, &heard[number]).await });
    }
    let mut publishers = Vec::new();
    for number in 0..options.publishers {
        publishers.push(Publisher {
            stream: wire.connect(addr).await?,
            wire,
            size: options.size,
            next: (number as u64) << 40,
            sent: 0,
        });
    }
    // Every subscriber has to receive a probe before the measurement begins.
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
    // A relay may drop messages for slow peers. Those that are missing are reported.
    let _ = timeout(DRAIN, drained).await;
    drop(stalled);
    print(&json!({
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
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
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
    /// Bytes that were sent.
    sent: u64,
}

impl Publisher {
    /// Sends one message.
    async fn probe(&mut self) -> Result<(), Failed> {
        let mut frames = self.wire.messages(1, self.size);
        self.number(&mut frames);
        self.stream.write_all(&frames).await?;
        self.sent += frames.len() as u64;
        Ok(())
    }

    /// Sends until `stop` is set, and returns the number of bytes.
    async fn publish(mut self, stop: Rc<Cell<bool>>) -> Result<u64, Failed> {
        let count = (WRITE / self.wire.len(self.size)).max(1);
        let mut frames = self.wire.messages(count, self.size);
        let mut scratch = vec![0; 64 * 1024];
        while !stop.get() {
            self.number(&mut frames);
            let mut rest = &frames[..];
            // After the stop a batch is finished, but none begun.
            let begun = |rest: &[u8]| rest.len() < frames.len();
            while !rest.is_empty() && (begun(rest) || !stop.get()) {
                // A hub that reads nothing more must not keep the load from ending.
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
            // Messages of other publishers are not counted, but must not fill the socket.
            while matches!(self.stream.try_read(&mut scratch), Ok(read) if read > 0) {}
            // The subscribers share the thread.
            tokio::task::yield_now().await;
        }
        let sent = self.sent;
        // The connection stays open, because a disconnect would cost the hub CPU time.
        spawn_local(async move {
            let _stream = self.stream;
            pending::<()>().await;
        });
        Ok(sent)
    }

    fn number(&mut self, frames: &mut [u8]) {
        for frame in frames.chunks_exact_mut(self.wire.len(self.size)) {
            self.next += 1;
            self.wire.number(frame, self.next);
        }
    }
}
