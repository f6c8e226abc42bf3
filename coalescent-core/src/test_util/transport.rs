//! Checks that a transport does what connections rely on.
//!
//! ```
//! use coalescent::test_util::transport;
//! use coalescent::transport::Tcp;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! // In a test of its own: #[tokio::test] async fn tcp_is_a_good_transport() { … }
//! transport::check(Tcp, Tcp, "127.0.0.1:0").await;
//! # }
//! ```

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter, split};

use super::DEADLINE;
use crate::transport::address::Address;
use crate::transport::{BoxIo, Connected, Listener, Protection, Transport};

/// How many frames are sent each way to see that they keep their order: 10,000.
pub const FRAMES: u32 = 10_000;

/// How many connections are made while their acceptance is cancelled again and again: 16.
const CANCELLED: usize = 16;

/// Runs every check of a transport: `accepting` listens at the text `listen`, and `dialling`
/// connects to it. Both may be the same, or, where transports prove keys, two nodes.
///
/// - What a listener says as its address can be dialled, and has a scheme of the transport.
/// - Both ends of a connection open without a byte being sent: some wires wait for the other side.
/// - A transport that [proves keys](Protection::Keys) tells the key of each end to the other, and
///   that of the address that was dialled.
/// - A transport that tells socket addresses asks for each whether it is permitted, and what it
///   says of the local end is what the other end sees.
/// - [`FRAMES`] frames of up to 1 KiB arrive in their order, in both directions at once.
/// - An end that has finished writing can still read all that the other one writes.
/// - An end that is dropped is noticed at the other one.
/// - No connection is lost when accepting is cancelled.
///
/// # Panics
///
/// Panics if the transport fails a check, with what it should do; also if a step takes longer than
/// [`DEADLINE`].
pub async fn check(accepting: impl Transport, dialling: impl Transport, listen: &str) {
    let listener = within("listen", accepting.listen(listen)).await;
    let mut listener = listener.expect("a transport listens where it is told to");
    let address = address_of(&*listener, &accepting);
    let pair = Pair {
        accepting: &accepting,
        dialling: &dialling,
        address: &address,
    };
    let (here, there) = pair.open(&mut *listener).await;
    pair.check_ends(&here, &there);
    check_permit(&pair, &here).await;
    check_order(here.io, there.io).await;
    let (here, there) = pair.open(&mut *listener).await;
    check_half_close(here.io, there.io).await;
    let (here, there) = pair.open(&mut *listener).await;
    check_half_close(there.io, here.io).await;
    for drop_here in [true, false] {
        let (here, there) = pair.open(&mut *listener).await;
        let (dropped, mut left) = match drop_here {
            true => (here.io, there.io),
            false => (there.io, here.io),
        };
        drop(dropped);
        // Its end, or an error: anything but silence.
        let _ = within("notice a dropped end", left.read(&mut [0; 1])).await;
    }
    check_cancelled(&pair, &mut *listener).await;
}

async fn within<T>(what: &str, step: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, step).await {
        Ok(done) => done,
        Err(_) => panic!("a transport should {what} within {DEADLINE:?}"),
    }
}

/// Checks that the address of a listener can be written, read and dialled.
fn address_of(listener: &dyn Listener, transport: &impl Transport) -> Address {
    let address = listener.address().expect("a listener has an address");
    let read: Result<Address, _> = address.to_string().parse();
    assert_eq!(read.as_ref(), Ok(&address), "an address is read as written");
    let schemes = transport.schemes();
    assert!(
        schemes.contains(&address.scheme()),
        "a listener is at an address of a scheme of its transport: {address} is none of {schemes:?}"
    );
    address
}

struct Pair<'a, A, D> {
    accepting: &'a A,
    dialling: &'a D,
    address: &'a Address,
}

impl<A: Transport, D: Transport> Pair<'_, A, D> {
    /// Opens a connection. Nothing is sent over it.
    async fn open(&self, listener: &mut dyn Listener) -> (Connected, Connected) {
        let opening = async { tokio::join!(self.connect(), listener.accept()) };
        let (here, there) = within("open a connection that nothing is sent over", opening).await;
        (
            here.expect("a transport connects to its listener"),
            there.expect("a listener accepts"),
        )
    }

    async fn connect(&self) -> io::Result<Connected> {
        self.dialling.connect(self.address, &|_| Ok(())).await
    }

    fn check_ends(&self, here: &Connected, there: &Connected) {
        let scheme = self.address.scheme();
        if self.dialling.protection(scheme) == Protection::Keys {
            assert!(
                here.key.is_some() && there.key.is_some(),
                "a transport that proves keys tells the key of each end to the other"
            );
            for (transport, proven) in [
                (self.accepting.key(), here.key),
                (self.dialling.key(), there.key),
            ] {
                if transport.is_some() {
                    assert_eq!(proven, transport, "the key that is proven is the node's");
                }
            }
            if let Some(id) = self.address.id() {
                assert_eq!(
                    here.key,
                    Some(id),
                    "who is dialled by a key proves that one"
                );
            }
        }
        let local = self.dialling.local_addr(&here.io);
        if let (Some(local), Some(seen)) = (local, there.addr) {
            let canonical = |addr: SocketAddr| (addr.ip().to_canonical(), addr.port());
            assert_eq!(
                canonical(local),
                canonical(seen),
                "the local address of a connection is the one that the other end sees"
            );
        }
    }
}

/// Checks that each socket address is asked for, and that a refusal is the result.
async fn check_permit<A: Transport, D: Transport>(pair: &Pair<'_, A, D>, here: &Connected) {
    let Some(there) = here.addr else { return };
    let asked = Mutex::new(Vec::new());
    let refuse = |addr: SocketAddr| {
        asked.lock().expect("no test has failed").push(addr);
        Err(io::Error::other("not permitted"))
    };
    let refused = within("refuse", pair.dialling.connect(pair.address, &refuse)).await;
    let error = refused.expect_err("an address that is not permitted is not connected to");
    assert_eq!(
        error.to_string(),
        "not permitted",
        "if no address is permitted, the error of `permit` is returned"
    );
    let asked = asked.lock().expect("no test has failed");
    assert!(
        asked.contains(&there),
        "`permit` is called with {there}, to which a connection was opened"
    );
}

async fn check_order(here: BoxIo, there: BoxIo) {
    let (from_there, to_there) = split(here);
    let (from_here, to_here) = split(there);
    let exchange = async {
        tokio::join!(
            send_frames(to_there),
            send_frames(to_here),
            expect_frames(from_there),
            expect_frames(from_here),
        )
    };
    within("carry 10,000 frames in each direction", exchange).await;
}

/// The length of a frame: all from 4 bytes to 1 KiB come.
fn len_of(number: u32) -> usize {
    4 + (number as usize * 7) % 1021
}

async fn send_frames(io: impl AsyncWrite + Unpin) {
    let mut io = BufWriter::new(io);
    for number in 0..FRAMES {
        let mut frame = vec![number as u8; len_of(number)];
        frame[..4].copy_from_slice(&number.to_be_bytes());
        io.write_all(&frame).await.expect("an open end takes bytes");
    }
    io.flush().await.expect("an open end takes bytes");
}

async fn expect_frames(io: impl AsyncRead + Unpin) {
    let mut io = BufReader::new(io);
    let mut frame = Vec::new();
    for number in 0..FRAMES {
        frame.resize(len_of(number), 0);
        let read = io.read_exact(&mut frame).await;
        read.expect("an open end gives what was written");
        assert!(
            frame[..4] == number.to_be_bytes()
                && frame[4..].iter().all(|byte| *byte == number as u8),
            "frame {number} arrives in its place, as it was written"
        );
    }
}

/// Checks that one end can finish writing, and then read all that the other one writes.
async fn check_half_close(mut first: BoxIo, mut second: BoxIo) {
    const SAID: usize = 100_000;
    let closing = async {
        first.write_all(b"bye").await.expect("an open end");
        first.shutdown().await.expect("an end that can finish");
        let mut heard = Vec::new();
        first.read_to_end(&mut heard).await.expect("the other end");
        assert_eq!(
            heard.len(),
            SAID,
            "all arrives after the own end has finished"
        );
    };
    let answering = async {
        let mut heard = Vec::new();
        let read = second.read_to_end(&mut heard).await;
        read.expect("an end that has finished is at its end");
        assert_eq!(heard, b"bye");
        let said = second.write_all(&[7; SAID]).await;
        said.expect("an end that has finished still reads");
        second.shutdown().await.expect("an end that can finish");
    };
    let both = async { tokio::join!(closing, answering) };
    within("let one end finish before the other", both).await;
}

/// Checks that no connection is lost when the future of `accept` is dropped, at whatever point.
async fn check_cancelled<A: Transport, D: Transport>(
    pair: &Pair<'_, A, D>,
    listener: &mut dyn Listener,
) {
    let connecting = async {
        let mut open = Vec::new();
        for number in 0..CANCELLED as u8 {
            let mut connected = pair.connect().await.expect("a listener is there");
            let said = connected.io.write_all(&[number]).await;
            said.expect("an open end takes bytes");
            connected.io.flush().await.expect("an open end takes bytes");
            open.push(connected);
        }
        open
    };
    let accepting = async {
        let mut accepted = Vec::new();
        let mut wait = Duration::ZERO;
        while accepted.len() < CANCELLED {
            match tokio::time::timeout(wait, listener.accept()).await {
                Ok(connected) => accepted.push(connected.expect("a listener accepts")),
                Err(_) => wait = (wait + Duration::from_micros(100)).min(Duration::from_millis(20)),
            }
        }
        accepted
    };
    let both = async { tokio::join!(connecting, accepting) };
    let (open, accepted) = within("lose no connection when accepting is cancelled", both).await;
    let mut heard = Vec::new();
    for mut connected in accepted {
        heard.push(within("carry a byte", connected.io.read_u8()).await.ok());
    }
    heard.sort_unstable();
    let said: Vec<_> = (0..CANCELLED as u8).map(Some).collect();
    assert_eq!(heard, said, "each connection is accepted once");
    drop(open);
}
