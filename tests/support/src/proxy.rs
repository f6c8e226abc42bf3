//! A TCP proxy that does to a connection what bad networks do. What it does can be changed while it
//! runs.

// Each test file compiles its own copy and uses a part of it.
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

/// How many bytes are read at once where chunks are not limited.
const CHUNK: usize = 16 * 1024;

/// How many chunks may be on their way in one direction.
const IN_FLIGHT: usize = 64;

/// What happens to the bytes of one direction. By default nothing does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// Each byte arrives so much later. Takes nothing from the throughput.
    pub delay: Duration,
    /// Nothing arrives until this is taken back; then everything does.
    pub stall: bool,
    /// So many bytes are read and written at a time; 0 is as many as there are.
    pub chunk: usize,
    /// So many bytes pass in a second; 0 is without a limit.
    pub bytes_per_second: u32,
    /// After exactly so many bytes, counted for each connection, both directions are closed.
    pub cut_after: Option<u64>,
    /// The receiver is told that nothing more comes; what still does is discarded.
    pub half_close: bool,
}

/// What a proxy does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// From the one who dials to the target.
    pub up: Fault,
    /// From the target to the one who dials.
    pub down: Fault,
    /// New connections are reset as soon as they are accepted.
    pub refuse: bool,
    /// New connections are accepted and not taken further until [`Proxy::release`].
    pub hold: bool,
    /// Connections that began before the last change of this number are reset.
    pub resets: u64,
}

impl Faults {
    /// The same fault in both directions.
    pub fn both(fault: Fault) -> Self {
        Self {
            up: fault,
            down: fault,
            ..Self::default()
        }
    }
}

/// A running proxy. Ends, and all its connections with it, when dropped.
pub struct Proxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    target: Mutex<SocketAddr>,
    faults: watch::Sender<Faults>,
    held: Mutex<Vec<TcpStream>>,
    /// How many connections were accepted, and how many of them run.
    accepted: watch::Sender<(usize, usize)>,
}

/// How one connection ended.
#[derive(PartialEq, Eq)]
enum End {
    Closed,
    Reset,
}

impl Proxy {
    /// Starts a proxy in front of `target`, at a free port.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("a bound socket");
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            faults: watch::Sender::new(Faults::default()),
            held: Mutex::default(),
            accepted: watch::Sender::new((0, 0)),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self {
            addr,
            shared,
            accepting,
        }
    }

    /// Where to dial.
    pub fn addr(&self) -> String {
        self.addr.to_string()
    }

    /// Changes what happens, to running connections too.
    pub fn change(&self, change: impl FnOnce(&mut Faults)) {
        self.shared.faults.send_modify(change);
    }

    /// Does only this from now on; [`Faults::default`] is to do no harm.
    pub fn set(&self, faults: Faults) {
        self.change(|old| {
            let resets = old.resets;
            *old = Faults { resets, ..faults };
        });
    }

    /// Takes new connections elsewhere.
    pub fn retarget(&self, target: SocketAddr) {
        *lock(&self.shared.target) = target;
    }

    /// Resets all connections: both ends get `ECONNRESET`, and lose what was not read.
    pub fn reset(&self) {
        self.change(|faults| faults.resets += 1);
    }

    /// How many connections were accepted so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.borrow().0
    }

    /// How many connections run at the moment.
    pub fn running(&self) -> usize {
        self.shared.accepted.borrow().1
    }

    /// How many connections are held back at the moment.
    pub fn held(&self) -> usize {
        lock(&self.shared.held).len()
    }

    /// Takes the connections that were held back to the target, in the order that `order` makes of
    /// them, each after the one before has been connected.
    pub async fn release(&self, order: impl FnOnce(&mut Vec<TcpStream>)) {
        let mut held = std::mem::take(&mut *lock(&self.shared.held));
        order(&mut held);
        self.change(|faults| faults.hold = false);
        for near in held {
            let target = *lock(&self.shared.target);
            if let Ok(far) = TcpStream::connect(target).await {
                begin(near, far, &self.shared);
            }
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.reset();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((near, _)) = listener.accept().await else {
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        shared.accepted.send_modify(|(all, _)| *all += 1);
        let faults = *shared.faults.borrow();
        if faults.refuse {
            reset(&near);
            continue;
        }
        if faults.hold {
            lock(&shared.held).push(near);
            continue;
        }
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let target = *lock(&shared.target);
            match TcpStream::connect(target).await {
                Ok(far) => begin(near, far, &shared),
                Err(_) => reset(&near),
            }
        });
    }
}

/// Has a socket answer with a reset, and not with an orderly end, when it is dropped.
fn reset(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

fn begin(near: TcpStream, far: TcpStream, shared: &Arc<Shared>) {
    let shared = Arc::clone(shared);
    shared.accepted.send_modify(|(_, running)| *running += 1);
    tokio::spawn(async move {
        run(near, far, &shared.faults).await;
        shared.accepted.send_modify(|(_, running)| *running -= 1);
    });
}

async fn run(mut near: TcpStream, mut far: TcpStream, faults: &watch::Sender<Faults>) {
    // One byte at a time is only that when the kernel does not put them together again.
    let _ = near.set_nodelay(true);
    let _ = far.set_nodelay(true);
    let end = {
        let (near_read, near_write) = near.split();
        let (far_read, far_write) = far.split();
        let mut changes = faults.subscribe();
        let resets = changes.borrow().resets;
        let both = async {
            tokio::try_join!(
                pump(near_read, far_write, faults.subscribe(), |faults| faults.up),
                pump(far_read, near_write, faults.subscribe(), |faults| faults
                    .down),
            )
        };
        tokio::select! {
            ended = both => match ended {
                Ok(_) => End::Closed,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => End::Closed,
                Err(_) => End::Reset,
            },
            () = until(&mut changes, |faults| faults.resets != resets) => End::Reset,
        }
    };
    if end == End::Reset {
        reset(&near);
        reset(&far);
    }
}

/// Carries one direction to its end; an error ends the connection, `UnexpectedEof` in an orderly
/// way.
async fn pump(
    mut read: ReadHalf<'_>,
    mut write: WriteHalf<'_>,
    faults: watch::Receiver<Faults>,
    pick: fn(&Faults) -> Fault,
) -> io::Result<()> {
    let (chunks, mut arriving) = mpsc::channel::<(Instant, Vec<u8>)>(IN_FLIGHT);
    let mut reader_faults = faults.clone();
    let mut faults = faults;
    let reading = async move {
        let mut buffer = vec![0; CHUNK];
        loop {
            moving(&mut reader_faults, pick).await;
            let limit = match pick(&reader_faults.borrow()).chunk {
                0 => CHUNK,
                chunk => chunk.min(CHUNK),
            };
            let read = read.read(&mut buffer[..limit]).await?;
            let due = Instant::now() + pick(&reader_faults.borrow()).delay;
            let chunk = buffer[..read].to_vec();
            if chunks.send((due, chunk)).await.is_err() || read == 0 {
                return Ok(());
            }
        }
    };
    let writing = async {
        let mut written = 0;
        let mut closed = false;
        loop {
            let chunk = tokio::select! {
                chunk = arriving.recv() => chunk,
                () = until(&mut faults, |faults| pick(faults).half_close), if !closed => {
                    closed = true;
                    write.shutdown().await?;
                    continue;
                }
            };
            let Some((due, bytes)) = chunk else {
                return Ok(());
            };
            sleep_until(due).await;
            moving(&mut faults, pick).await;
            let fault = pick(&faults.borrow());
            if closed {
                continue;
            }
            if bytes.is_empty() {
                write.shutdown().await?;
                return Ok(());
            }
            let left = fault
                .cut_after
                .map_or(u64::MAX, |limit| limit.saturating_sub(written));
            let allowed = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            write.write_all(&bytes[..allowed]).await?;
            written += allowed as u64;
            if fault.cut_after == Some(written) || allowed < bytes.len() {
                write.shutdown().await?;
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if fault.bytes_per_second > 0 {
                sleep(Duration::from_secs_f64(
                    allowed as f64 / f64::from(fault.bytes_per_second),
                ))
                .await;
            }
        }
    };
    tokio::try_join!(reading, writing).map(|_| ())
}

/// Waits while the direction is stalled.
async fn moving(faults: &mut watch::Receiver<Faults>, pick: fn(&Faults) -> Fault) {
    until(faults, |faults| !pick(faults).stall).await;
}

/// Waits until the faults are such; for ever once they can no longer change.
async fn until(faults: &mut watch::Receiver<Faults>, condition: impl FnMut(&Faults) -> bool) {
    if faults.wait_for(condition).await.is_err() {
        std::future::pending::<()>().await;
    }
}
