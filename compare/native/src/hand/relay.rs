//! A relay that parses every frame, and forwards runs of what it read as they stand.
//!
//! One task reads from each peer and one writes to it. The reader parses its buffer frame by frame
//! and lowers each ttl in place. Consecutive frames that are forwarded are one slice of the buffer,
//! which is queued for each other peer.

use std::io;
use std::ops::Range;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use common::Failed;
use common::options::{Options, Relay as Kind};
use common::report::serve;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::outbox::Outbox;
use super::seen::{Seen, hash};
use crate::socket::Server;
use crate::{socket, wire};

/// Bytes that are read at once from a peer that sends much.
const READ: usize = 256 * 1024;

/// One relaying node.
#[derive(Debug)]
pub struct Relay {
    peers: Mutex<Arc<[Arc<Outbox>]>>,
    /// The frames so far, if each is forwarded once.
    seen: Option<Mutex<Seen>>,
    key: [u8; 16],
    /// Frames that have arrived for the first time.
    pub delivered: AtomicU64,
}

impl Relay {
    /// Makes a relay that forwards all frames, or with `once` each frame once.
    #[must_use]
    pub fn new(once: bool) -> Self {
        Self {
            peers: Mutex::default(),
            seen: once.then(Mutex::default),
            key: rand::random(),
            delivered: AtomicU64::new(0),
        }
    }

    /// Returns the present peers.
    pub fn peers(&self) -> MutexGuard<'_, Arc<[Arc<Outbox>]>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a connection after its handshake, until it ends.
    pub async fn run<R, W>(self: Arc<Self>, mut read: R, mut write: W, buf: BytesMut)
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let me = Arc::new(Outbox::default());
        let outbox = Arc::clone(&me);
        tokio::spawn(async move {
            // If writing fails, the reader notices too.
            let _ = outbox.write(&mut write).await;
        });
        self.join(&me);
        let _ = self.read(&mut read, buf, &me).await;
        self.leave(&me);
        me.close();
    }

    /// Publishes a frame of this node.
    pub async fn publish(&self, frame: Bytes) {
        if let Some(seen) = &self.seen {
            let identity = hash(&self.key, frame.get(wire::FIXED..).unwrap_or_default());
            seen.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(identity);
        }
        let peers = Arc::clone(&self.peers());
        for peer in peers.iter() {
            peer.push(frame.clone()).await;
        }
    }

    fn join(&self, me: &Arc<Outbox>) {
        let mut peers = self.peers();
        *peers = peers.iter().cloned().chain([Arc::clone(me)]).collect();
    }

    fn leave(&self, me: &Arc<Outbox>) {
        let mut peers = self.peers();
        *peers = peers
            .iter()
            .filter(|peer| !Arc::ptr_eq(peer, me))
            .cloned()
            .collect();
    }

    async fn read<R: AsyncRead + Unpin>(
        &self,
        io: &mut R,
        mut buf: BytesMut,
        me: &Arc<Outbox>,
    ) -> io::Result<()> {
        let mut scan = Scan::default();
        let mut size = 4 * 1024;
        loop {
            scan.frames(&mut buf, self.seen.is_some().then_some(&self.key))?;
            if scan.end > 0 {
                if let Some(seen) = &self.seen {
                    scan.drop_seen(&mut seen.lock().unwrap_or_else(PoisonError::into_inner));
                }
                self.delivered.fetch_add(scan.count, Relaxed);
                let block = buf.split_to(scan.end).freeze();
                let peers = Arc::clone(&self.peers());
                for run in &scan.runs {
                    let run = block.slice(run.clone());
                    for peer in peers.iter().filter(|peer| !Arc::ptr_eq(peer, me)) {
                        peer.push(run.clone()).await;
                    }
                }
            }
            if buf.capacity() - buf.len() < size / 4 {
                buf.reserve(size);
            }
            if io.read_buf(&mut buf).await? == 0 {
                return Ok(());
            }
            if buf.len() == buf.capacity() {
                size = (size * 4).min(READ);
            }
        }
    }
}

/// The frames of a buffer.
#[derive(Debug, Default)]
struct Scan {
    /// Runs of consecutive frames that are forwarded.
    runs: Vec<Range<usize>>,
    /// The end of the last whole frame.
    end: usize,
    /// The number of frames that are forwarded.
    count: u64,
    /// The place and the hash of each frame, if frames are forwarded once.
    hashes: Vec<(Range<usize>, u128)>,
}

impl Scan {
    fn frames(&mut self, buf: &mut [u8], key: Option<&[u8; 16]>) -> io::Result<()> {
        self.runs.clear();
        self.hashes.clear();
        self.end = 0;
        self.count = 0;
        loop {
            let at = self.end;
            let rest = buf.get_mut(at..).unwrap_or_default();
            let Some(head) = wire::parse(rest)? else {
                return Ok(());
            };
            self.end += head.len;
            if head.kind != wire::BROADCAST || head.ttl <= 1 {
                continue;
            }
            self.count += 1;
            if let Some(ttl) = rest.get_mut(wire::TTL_AT) {
                *ttl -= 1;
            }
            let frame = at..self.end;
            match key {
                Some(key) => {
                    let hashed = rest.get(wire::FIXED..head.len).unwrap_or_default();
                    self.hashes.push((frame, hash(key, hashed)));
                }
                None => self.pass_on(frame),
            }
        }
    }

    fn drop_seen(&mut self, seen: &mut Seen) {
        self.count = 0;
        for (frame, hash) in std::mem::take(&mut self.hashes) {
            if seen.insert(hash) {
                self.count += 1;
                self.pass_on(frame);
            }
        }
    }

    fn pass_on(&mut self, frame: Range<usize>) {
        match self.runs.last_mut() {
            Some(last) if last.end == frame.start => last.end = frame.end,
            _ => self.runs.push(frame),
        }
    }
}

/// The role of a hub: relays the frames of each peer to all others.
///
/// # Errors
///
/// Where it can't listen.
pub async fn hub(options: &Options) -> Result<(), Failed> {
    let relay = Arc::new(Relay::new(options.relay == Kind::SmartRelay));
    let server = Server::bind(options.tls)?;
    let (listener, acceptor) = (server.listener, server.acceptor);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let relay = Arc::clone(&relay);
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                socket::tune(&stream)?;
                if let Some(acceptor) = acceptor {
                    let mut stream = acceptor.accept(stream).await?;
                    let buf = wire::hello(&mut stream).await?;
                    let (read, write) = tokio::io::split(stream);
                    relay.run(read, write, buf).await;
                } else {
                    let buf = wire::hello(&mut stream).await?;
                    let (read, write) = stream.into_split();
                    relay.run(read, write, buf).await;
                }
                io::Result::Ok(())
            });
        }
    });
    serve(server.address).await;
    Ok(())
}

/// The role that only holds encrypted connections, to measure a bare stream of rustls.
///
/// # Errors
///
/// Where it can't listen.
pub async fn hold() -> Result<(), Failed> {
    let server = Server::bind(true)?;
    let (listener, acceptor) = (server.listener, server.acceptor);
    let acceptor = acceptor.ok_or("a server that only holds connections is encrypted")?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                socket::tune(&stream)?;
                // Boxed, so that the memory of the handshake is freed.
                let mut stream = Box::pin(acceptor.accept(stream)).await?;
                drop(wire::hello(&mut stream).await?);
                let mut some = [0; 1024];
                while stream.read(&mut some).await? > 0 {}
                io::Result::Ok(())
            });
        }
    });
    serve(server.address).await;
    Ok(())
}
