//! Tests of the data on an established connection.

use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::ReadBuf;

use super::*;

const BULK: usize = 10 << 20;

/// Returns bytes in which a lost or duplicated record would be noticed.
fn bulk(seed: u32) -> Vec<u8> {
    (0..BULK as u32 / 4)
        .flat_map(|i| (i ^ seed).wrapping_mul(0x9e37_79b1).to_le_bytes())
        .collect()
}

/// Sends `data` and shuts down, while reading the other side until its end.
async fn exchange<IO>(stream: TlsStream<IO>, data: &[u8]) -> Vec<u8>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut heard = Vec::new();
    let write = async {
        writer.write_all(data).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let (read, ()) = tokio::join!(reader.read_to_end(&mut heard), write);
    read.unwrap();
    heard
}

#[tokio::test]
async fn bulk_data_flows_in_both_directions() {
    let (a, b) = connected().await;
    let (ours, theirs) = (bulk(1), bulk(2));
    let (at_a, at_b) = tokio::join!(exchange(a, &ours), exchange(b, &theirs));
    assert!(at_a == theirs && at_b == ours);
}

#[tokio::test]
async fn bulk_data_flows_in_both_directions_over_tcp() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dial = tokio::net::TcpStream::connect(listener.local_addr().unwrap());
    let (a, b) = tokio::join!(listener.accept(), dial);
    let (bob, alice) = (node(), node());
    let (a, b) = tokio::join!(
        bob.accept(a.unwrap().0),
        alice.connect(b.unwrap(), Some(bob.id()))
    );
    let (ours, theirs) = (bulk(3), bulk(4));
    let (at_a, at_b) = tokio::join!(
        exchange(a.unwrap().0, &ours),
        exchange(b.unwrap().0, &theirs)
    );
    assert!(at_a == theirs && at_b == ours);
}

/// A socket that reads and writes one byte at a time, and none at every second call.
///
/// The underlying `IO` must buffer one handshake message, because neither side of a handshake reads
/// while it writes.
struct Crumbs<IO> {
    io: IO,
    read_ready: bool,
    write_ready: bool,
}

impl<IO> Crumbs<IO> {
    fn new(io: IO) -> Self {
        Self {
            io,
            read_ready: false,
            write_ready: false,
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Crumbs<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.read_ready = !self.read_ready;
        if !self.read_ready {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut byte = [0];
        let mut one = ReadBuf::new(&mut byte);
        std::task::ready!(Pin::new(&mut self.io).poll_read(cx, &mut one))?;
        buf.put_slice(one.filled());
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Crumbs<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write_ready = !self.write_ready;
        if !self.write_ready {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.io).poll_write(cx, &buf[..buf.len().min(1)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_transfers_single_bytes_suffices() {
    let (a, b) = duplex(64);
    let (a, b) = (Crumbs::new(a), Crumbs::new(b));
    let (bob, alice) = (node(), node());
    let (a, b) =
        soon(async { tokio::join!(bob.accept(a), alice.connect(b, Some(bob.id()))) }).await;
    let data = &bulk(5)[..20_000];
    let (a, b) = (a.unwrap().0, b.unwrap().0);
    let (at_a, at_b) = soon(async { tokio::join!(exchange(a, data), exchange(b, b"short")) }).await;
    assert!(at_a == b"short" && at_b == data);
}

#[tokio::test(start_paused = true)]
async fn vectored_writes_arrive_in_order() {
    let (mut a, mut b) = connected().await;
    assert!(a.is_write_vectored());
    let parts = [
        IoSlice::new(b"one "),
        IoSlice::new(b""),
        IoSlice::new(b"two"),
    ];
    let written = poll_fn(|cx| Pin::new(&mut a).poll_write_vectored(cx, &parts)).await;
    assert_eq!(written.unwrap(), 7, "only the first slice was taken");
    a.shutdown().await.unwrap();
    let mut heard = String::new();
    soon(b.read_to_string(&mut heard)).await.unwrap();
    assert_eq!(heard, "one two");
}

#[tokio::test(start_paused = true)]
async fn shutting_down_ends_one_direction_cleanly() {
    let (mut a, mut b) = connected().await;
    a.write_all(b"last words").await.unwrap();
    a.shutdown().await.unwrap();
    let mut heard = Vec::new();
    soon(b.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard, b"last words");
    assert!(
        a.write_all(b"more").await.is_err(),
        "data after the end is lost unseen"
    );

    b.write_all(b"answer").await.unwrap();
    b.shutdown().await.unwrap();
    heard.clear();
    soon(a.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard, b"answer");
}

#[tokio::test(start_paused = true)]
async fn an_unclean_end_is_an_error() {
    let (mut a, mut b) = connected().await;
    a.write_all(b"cut").await.unwrap();
    a.flush().await.unwrap();
    drop(a);
    let mut heard = Vec::new();
    let error = soon(b.read_to_end(&mut heard)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert_eq!(heard, b"cut");
}

#[tokio::test(start_paused = true)]
async fn a_corrupted_byte_is_an_error() {
    let ((a, mut middle_a), (mut middle_b, b)) = (duplex(4096), duplex(4096));
    let (bob, alice) = (node(), node());
    let shake = async { tokio::join!(bob.accept(a), alice.connect(b, Some(bob.id()))) };
    let (a, b) = soon(async {
        tokio::select! {
            both = shake => both,
            _ = tokio::io::copy_bidirectional(&mut middle_a, &mut middle_b) => unreachable!(),
        }
    })
    .await;
    let (mut a, mut b) = (a.unwrap().0, b.unwrap().0);
    b.write_all(b"pay 10 to carol").await.unwrap();
    b.flush().await.unwrap();
    let mut record = vec![0; 4096];
    let length = soon(middle_b.read(&mut record)).await.unwrap();
    record.truncate(length);
    *record.last_mut().unwrap() ^= 1;
    middle_a.write_all(&record).await.unwrap();
    let mut heard = [0; 15];
    let error = soon(a.read_exact(&mut heard)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert_eq!(heard, [0; 15]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_blocks_writes_at_the_limit() {
    let socket = 1024;
    let (a, b) = duplex(socket);
    let (bob, alice) = (node(), node());
    let (a, b) = soon(async { tokio::join!(bob.accept(a), alice.connect(b, None)) }).await;
    let (mut a, _b) = (a.unwrap().0, b.unwrap().0);
    let chunk = [7; 1000];
    let mut taken = 0;
    loop {
        let write = poll_fn(|cx| Poll::Ready(Pin::new(&mut a).poll_write(cx, &chunk))).await;
        match write {
            Poll::Ready(written) => taken += written.unwrap(),
            Poll::Pending => break,
        }
        assert!(taken <= SEND_BUFFER + socket, "{taken}");
    }
    assert!(taken >= SEND_BUFFER / 2, "{taken}");
}
