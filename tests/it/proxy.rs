//! That the proxy of these tests does what it says: else the tests of faults would prove nothing.

use std::future::Future;
use std::io::ErrorKind;
use std::time::Duration;

use support::proxy::{Fault, Faults, Proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// A proxy, with a connection through it: the near end, and the target's.
async fn pair(faults: Faults) -> (Proxy, TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).await;
    proxy.set(faults);
    let near = TcpStream::connect(proxy.addr()).await.unwrap();
    let (far, _) = soon("a connection", listener.accept()).await.unwrap();
    (proxy, near, far)
}

async fn read_exactly(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    soon("bytes", stream.read_exact(&mut bytes)).await.unwrap();
    bytes
}

#[tokio::test]
async fn without_a_fault_bytes_and_ends_pass_both_ways() {
    let (proxy, mut near, mut far) = pair(Faults::default()).await;
    near.write_all(b"up").await.unwrap();
    assert_eq!(read_exactly(&mut far, 2).await, b"up");
    far.write_all(b"down").await.unwrap();
    assert_eq!(read_exactly(&mut near, 4).await, b"down");
    near.shutdown().await.unwrap();
    assert_eq!(
        soon("the end", far.read_u8()).await.unwrap_err().kind(),
        ErrorKind::UnexpectedEof
    );
    // The other direction is still open.
    far.write_all(b"last").await.unwrap();
    assert_eq!(read_exactly(&mut near, 4).await, b"last");
    drop(far);
    soon("the end of the connection", async {
        while proxy.running() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_delay_holds_up_bytes_and_not_the_throughput() {
    let delay = Duration::from_millis(200);
    let fault = Fault {
        delay,
        ..Fault::default()
    };
    let (_proxy, mut near, mut far) = pair(Faults {
        up: fault,
        ..Faults::default()
    })
    .await;
    let start = Instant::now();
    for _ in 0..20 {
        near.write_all(b"x").await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    read_exactly(&mut far, 20).await;
    let took = start.elapsed();
    assert!(took >= delay, "{took:?}");
    assert!(
        took < delay * 20,
        "each byte waited for the one before: {took:?}"
    );
}

#[tokio::test]
async fn a_stall_holds_up_everything_until_it_ends() {
    let (proxy, mut near, mut far) = pair(Faults::default()).await;
    proxy.change(|faults| faults.up.stall = true);
    near.write_all(b"held").await.unwrap();
    let mut bytes = [0; 4];
    let waited = timeout(Duration::from_millis(100), far.read_exact(&mut bytes)).await;
    assert!(waited.is_err(), "bytes came through a stall");
    // The other direction is not stalled.
    far.write_all(b"free").await.unwrap();
    assert_eq!(read_exactly(&mut near, 4).await, b"free");
    proxy.change(|faults| faults.up.stall = false);
    assert_eq!(read_exactly(&mut far, 4).await, b"held");
}

#[tokio::test]
async fn a_reset_is_one_at_both_ends() {
    let (proxy, mut near, mut far) = pair(Faults::default()).await;
    near.write_all(b"x").await.unwrap();
    read_exactly(&mut far, 1).await;
    proxy.reset();
    for end in [&mut near, &mut far] {
        let error = soon("a reset", end.read_u8()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    assert_eq!((proxy.accepted(), proxy.running()), (1, 0));
}

#[tokio::test]
async fn a_half_close_ends_one_direction_alone() {
    let (proxy, mut near, mut far) = pair(Faults::default()).await;
    proxy.change(|faults| faults.down.half_close = true);
    let error = soon("the end", near.read_u8()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    near.write_all(b"still").await.unwrap();
    assert_eq!(read_exactly(&mut far, 5).await, b"still");
}

#[tokio::test]
async fn chunks_are_as_small_as_asked_for() {
    let fault = Fault {
        chunk: 1,
        ..Fault::default()
    };
    let (_proxy, mut near, mut far) = pair(Faults::both(fault)).await;
    let sent: Vec<u8> = (0..=255).cycle().take(5000).collect();
    let (mut read, mut write) = near.split();
    let echo = async {
        let bytes = read_exactly(&mut far, 5000).await;
        far.write_all(&bytes).await.unwrap();
    };
    let mut back = vec![0; 5000];
    soon("an echo", async {
        tokio::join!(
            async { write.write_all(&sent).await.unwrap() },
            echo,
            async { read.read_exact(&mut back).await.unwrap() }
        )
    })
    .await;
    assert_eq!(back, sent);
}

#[tokio::test]
async fn a_bandwidth_is_not_exceeded() {
    let fault = Fault {
        bytes_per_second: 100_000,
        ..Fault::default()
    };
    let (_proxy, mut near, mut far) = pair(Faults {
        up: fault,
        ..Faults::default()
    })
    .await;
    let start = Instant::now();
    near.write_all(&vec![0; 50_000]).await.unwrap();
    read_exactly(&mut far, 50_000).await;
    // The last chunk arrives before its time is paid for: 16 KiB of the 50 KB.
    assert!(
        start.elapsed() >= Duration::from_millis(300),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_cut_lets_exactly_so_many_bytes_through() {
    let fault = Fault {
        cut_after: Some(777),
        ..Fault::default()
    };
    let (_proxy, mut near, mut far) = pair(Faults {
        up: fault,
        ..Faults::default()
    })
    .await;
    near.write_all(&vec![7; 5000]).await.unwrap();
    let mut bytes = Vec::new();
    soon("the end", far.read_to_end(&mut bytes)).await.unwrap();
    assert_eq!(bytes.len(), 777);
}

#[tokio::test]
async fn refused_connections_are_reset() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).await;
    proxy.change(|faults| faults.refuse = true);
    let ended = async {
        match TcpStream::connect(proxy.addr()).await {
            Ok(mut near) => near.read_u8().await.unwrap_err().kind(),
            Err(error) => error.kind(),
        }
    };
    assert_eq!(soon("a reset", ended).await, ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn whole_connections_arrive_in_another_order() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).await;
    proxy.change(|faults| faults.hold = true);
    let mut near = Vec::new();
    for name in [b'1', b'2', b'3'] {
        let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
        stream.write_all(&[name]).await.unwrap();
        near.push(stream);
        let held = near.len();
        soon("a held connection", async {
            while proxy.held() < held {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    proxy.release(|held| held.reverse()).await;
    let mut order = Vec::new();
    for _ in 0..3 {
        let (mut far, _) = soon("a connection", listener.accept()).await.unwrap();
        order.push(soon("its name", far.read_u8()).await.unwrap());
    }
    assert_eq!(order, b"321");
}
