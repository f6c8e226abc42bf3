//! Peers that send without end, connect without end, or leave no descriptors.

use std::io::{BufRead, Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use coalescent_core::wire::{Kind, Status};
use coalescent_core::{App, AppExt, Config, DisconnectReason, Event, Frame, Mesh, Reply};
use support::{ByHand, handle, on_the_wire, packet, soon, until};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

async fn echoing() -> Mesh {
    let echo = handle(|frame: Frame| async move {
        Ok(match frame.is_request() {
            true => Reply::Payload(frame.into_payload()),
            false => Reply::None,
        })
    });
    let app = App::new().with(echo).configure(part_soon);
    app.listen("127.0.0.1:0").await.expect("a free port")
}

/// A peer that never stops sending is waited for as long as the drain allows.
fn part_soon(config: &mut Config) {
    config.drain = Duration::from_millis(100);
}

async fn dial(mesh: &Mesh) -> TcpStream {
    TcpStream::connect(mesh.local_addrs()[0])
        .await
        .expect("someone who listens")
}

async fn round_trip(peer: &mut ByHand<TcpStream>, id: u32) {
    peer.send(Kind::Request { id }, "are you there?").await;
    let status = Status::Ok;
    let reply = peer.recv_frame().await.expect("a reply");
    assert_eq!(reply.kind, Kind::Reply { id, status });
}

/// A thread that writes `bytes` to a peer's socket for as long as it lives, so that there is always
/// something to read.
struct Flood(Arc<AtomicBool>);

impl Flood {
    async fn start(peer: &ByHand<TcpStream>, bytes: Bytes) -> Self {
        let socket = socket2::SockRef::from(peer.framed.get_ref());
        let mut socket = std::net::TcpStream::from(socket.try_clone().expect("a descriptor"));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || {
            // The socket does not block, as tokio's do not.
            let mut at = 0;
            while !stopped.load(Relaxed) {
                match socket.write(&bytes[at..]) {
                    Ok(written) => at = (at + written) % bytes.len(),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        std::thread::yield_now();
                    }
                    Err(_) => return,
                }
            }
        });
        Self(stop)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[tokio::test]
async fn a_flood_holds_up_neither_others_nor_what_is_written_to_its_own_peer() {
    let mesh = echoing().await;
    let mut flooding = ByHand::connect(dial(&mesh).await).await;
    let mut honest = ByHand::connect(dial(&mesh).await).await;
    until("both are in the roster", || mesh.peers().len() == 2).await;
    let junk = vec![packet(Kind::Data, vec![7; 1000]); 1000];
    let flood = Flood::start(&flooding, on_the_wire(&junk).freeze()).await;
    until("the flood has come", || mesh.stats().received > 20_000).await;

    // How much of the flood is handled while one question is answered. It is what the sockets held
    // that must not come first.
    let mut most = 0;
    for id in 0..20 {
        let before = mesh.stats().received;
        round_trip(&mut honest, id).await;
        most = most.max(mesh.stats().received - before);
    }
    assert!(most < 8000, "{most} frames of the flood in one round trip");

    let others = mesh.peers().list();
    for (done, text) in ["one", "two", "three"].into_iter().enumerate() {
        let before = mesh.stats().received;
        for peer in others.iter() {
            peer.send_payload(text).await.unwrap();
        }
        assert_eq!(flooding.recv_frame().await.unwrap().payload, text);
        assert_eq!(honest.recv_frame().await.unwrap().payload, text);
        let meanwhile = mesh.stats().received - before;
        assert!(
            meanwhile < 16_000,
            "{meanwhile} frames before the {done}. was written"
        );
    }
    drop(flood);
}

#[tokio::test]
async fn a_peer_that_floods_can_be_disconnected() {
    // With a handler that answers all of it, and with no layers at all.
    let bare = App::new().configure(part_soon);
    let bare = bare.listen("127.0.0.1:0").await.unwrap();
    for mesh in [echoing().await, bare] {
        for kind in [Kind::Broadcast { nonce: 1 }, Kind::Request { id: 1 }] {
            let flooding = ByHand::connect(dial(&mesh).await).await;
            until("it is in the roster", || mesh.peers().len() == 1).await;
            let before = mesh.stats().received;
            let junk = vec![packet(kind, vec![7; 10]); 1000];
            let flood = Flood::start(&flooding, on_the_wire(&junk).freeze()).await;
            until("it has come", || mesh.stats().received > before + 5000).await;
            let peer = mesh.peers().list()[0].clone();
            peer.disconnect("enough");
            let reason = soon("its end", peer.closed()).await;
            assert!(matches!(reason, DisconnectReason::Disconnected(why) if why == "enough"));
            until("it is gone", || mesh.peers().is_empty()).await;
            drop(flood);
        }
    }
}

#[tokio::test]
async fn pings_whose_answers_are_not_read_end_the_connection() {
    let mesh = echoing().await;
    let mut events = mesh.events();
    let mut honest = ByHand::connect(dial(&mesh).await).await;
    let pinging = ByHand::connect(dial(&mesh).await).await;
    let pings = on_the_wire(&vec![packet(Kind::Ping, "12345678"); 10_000]);
    let _flood = Flood::start(&pinging, pings.freeze()).await;
    let reason = soon("its end", async {
        loop {
            if let Some(Event::PeerDisconnected { reason, .. }) = events.next().await {
                return reason;
            }
        }
    })
    .await;
    assert!(matches!(reason, DisconnectReason::Protocol(_)), "{reason}");
    round_trip(&mut honest, 1).await;
}

#[tokio::test]
async fn control_frames_that_concern_nothing_change_nothing() {
    let mesh = echoing().await;
    let mut peer = ByHand::connect(dial(&mesh).await).await;
    let status = Status::Ok;
    let mut strange = Vec::new();
    for id in 0..20_000 {
        strange.push(packet(Kind::Cancel { id }, ""));
        strange.push(packet(Kind::Reply { id, status }, "nobody asked"));
        strange.push(packet(Kind::Pong, "12345678"));
    }
    let bytes = on_the_wire(&strange);
    peer.framed.get_mut().write_all(&bytes).await.unwrap();
    for id in 0..100 {
        round_trip(&mut peer, id).await;
    }
    assert_eq!(mesh.peers().len(), 1);
}

#[tokio::test]
async fn a_request_and_its_withdrawal_in_one_read_do_not_hold_up_what_follows() {
    let stack = handle(|frame: Frame| async move {
        if frame.payload() == b"hang" {
            std::future::pending::<()>().await;
        }
        Ok(Reply::Payload(frame.into_payload()))
    });
    let mesh = App::new().with(stack).listen("127.0.0.1:0").await.unwrap();
    let mut peer = ByHand::connect(dial(&mesh).await).await;
    let all = on_the_wire(&[
        packet(Kind::Request { id: 1 }, "hang"),
        packet(Kind::Cancel { id: 1 }, ""),
        packet(Kind::Request { id: 2 }, "answer"),
    ]);
    peer.framed.get_mut().write_all(&all).await.unwrap();
    let reply = peer.recv_frame().await.unwrap();
    assert_eq!(reply.payload, "answer");
}

#[tokio::test]
async fn thousands_who_connect_and_say_nothing_do_not_hold_up_who_is_in() {
    let mesh = echoing().await;
    let mut events = mesh.events();
    let mut honest = ByHand::connect(dial(&mesh).await).await;
    until("it is in the roster", || mesh.peers().len() == 1).await;
    let addr = mesh.local_addrs()[0];
    let crowd = tokio::spawn(async move {
        let mut held = Vec::new();
        for number in 0..2000 {
            if let Ok(socket) = TcpStream::connect(addr).await {
                held.push(socket);
            }
            if number % 100 == 0 {
                held.clear();
            }
        }
    });
    let mut id = 0;
    while !crowd.is_finished() {
        round_trip(&mut honest, id).await;
        id += 1;
    }
    assert!(id > 10, "{id} questions were answered meanwhile");
    crowd.await.unwrap();
    let mut late = ByHand::connect(dial(&mesh).await).await;
    round_trip(&mut late, 1).await;
    assert_eq!(mesh.peers().len(), 2);
    mesh.shutdown().await;
    let mut told = 0;
    while let Some(event) = events.next().await {
        told += usize::from(matches!(event, Event::Error { .. }));
    }
    assert!(told < 300, "{told} failures of strangers were told");
}

/// The time this process has computed, in hundredths of a second.
#[cfg(target_os = "linux")]
fn computed(stat: &std::fs::File) -> u64 {
    use std::os::unix::fs::FileExt;
    let mut text = [0; 1000];
    let len = stat
        .read_at(&mut text, 0)
        .expect("the state of this process");
    let stat = String::from_utf8_lossy(&text[..len]);
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split(' ').collect();
    let of = |at: usize| fields[at].parse::<u64>().expect("a number");
    of(12) + of(13)
}

/// What runs in the child: a node that is left `OPEN` descriptors.
#[cfg(target_os = "linux")]
#[tokio::test]
#[ignore = "a part of another test, which runs it in a process of its own"]
async fn a_node_with_few_descriptors() {
    let mesh = echoing().await;
    let mut events = mesh.events();
    let _warm = std::net::TcpStream::connect(mesh.local_addrs()[0]);
    let stat = std::fs::File::open("/proc/self/stat").expect("the state of this process");
    let open = std::fs::read_dir("/proc/self/fd")
        .expect("descriptors")
        .count() as u64;
    rlimit::setrlimit(rlimit::Resource::NOFILE, open + 8, open + 8).expect("a lower limit");
    println!("PORT {}", mesh.local_addrs()[0].port());
    let before = computed(&stat);
    let (mut told, mut first) = (0, None);
    // The parent closes stdin when it has let go of its connections.
    let closed = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    tokio::pin!(closed);
    loop {
        tokio::select! {
            _ = &mut closed => break,
            event = events.next() => if let Some(Event::Error { error, .. }) = event {
                told += 1;
                let since = *first.get_or_insert_with(std::time::Instant::now);
                if told == 3 {
                    println!("PAUSED {}", since.elapsed().as_millis());
                    println!("FULL {error}");
                }
            },
        }
    }
    println!("SPENT {} TOLD {told}", computed(&stat) - before);
    until("a peer again", || mesh.stats().received > 0).await;
    until("it has gone", || mesh.peers().is_empty()).await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn without_descriptors_a_node_neither_spins_nor_dies() {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args([
            "--exact",
            "floods::a_node_with_few_descriptors",
            "--ignored",
            "--nocapture",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let stdin = child.stdin.take();
    let mut lines = std::io::BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut line = |start: &str| loop {
        let line = lines.next().expect("another line").expect("text");
        if let Some(at) = line.find(start) {
            return line[at + start.len()..].trim().to_owned();
        }
    };
    let addr = format!("127.0.0.1:{}", line("PORT"));
    let mut held = Vec::new();
    for _ in 0..64 {
        held.push(TcpStream::connect(&addr).await.expect("the kernel's queue"));
    }
    let paused: u64 = line("PAUSED").parse().expect("a number");
    assert!(paused >= 100, "{paused} ms between three failures");
    let full = line("FULL");
    assert!(
        full.contains("accept") || full.contains("open files"),
        "{full}"
    );
    drop(held);
    drop(stdin);
    let spent = line("SPENT");
    let numbers: Vec<u64> = spent.split(" TOLD ").map(|n| n.parse().unwrap()).collect();
    assert!(numbers[0] < 50, "{} ms were computed", numbers[0] * 10);
    assert!(numbers[1] < 50, "{} errors were told", numbers[1]);
    let mut peer = ByHand::connect(TcpStream::connect(&addr).await.unwrap()).await;
    round_trip(&mut peer, 1).await;
    drop(peer);
    assert!(child.wait().expect("its end").success());
}
