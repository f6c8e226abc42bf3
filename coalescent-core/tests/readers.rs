//! Scenarios that the review looked at and that hold.

mod common;

use bytes::Bytes;
use coalescent_core::AppExt;
use coalescent_core::connection::Socket;
use coalescent_core::wire::Kind;
use coalescent_core::{App, Mesh, Plugin, Registrar, Wire};
use common::{ByHand, on_the_wire, packet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

async fn join(mesh: &Mesh) -> ByHand<DuplexStream> {
    let (near, far) = tokio::io::duplex(1 << 20);
    let (peer, adopted) = tokio::join!(ByHand::connect(near), mesh.adopt(far, Socket::inbound()));
    adopted.expect("a peer");
    peer
}

async fn join_wire(mesh: &Mesh, wire: Wire) -> DuplexStream {
    let (near, far) = tokio::io::duplex(1 << 20);
    mesh.adopt(far, Socket::inbound().wire(wire)).await.unwrap();
    near
}

type Told = Arc<Mutex<Vec<(Option<u64>, Bytes)>>>;
struct Hook(Told);
impl Plugin for Hook {
    fn register(&self, app: &mut Registrar) {
        let told = self.0.clone();
        app.on_broadcast(move |nonce, payload| told.lock().unwrap().push((nonce, payload.clone())));
    }
}

#[tokio::test(start_paused = true)]
async fn broadcasts_on_mixed_wires() {
    for hooked in [false, true] {
        let told = Told::default();
        let app = App::new().configure(|c| {
            c.max_frame = 100_000;
            c.outbox = 70_000;
        });
        let mesh = if hooked {
            app.plugin(Hook(told.clone())).start().await.unwrap()
        } else {
            app.start().await.unwrap()
        };
        let mut native = join(&mesh).await;
        let mut lines = join_wire(&mesh, Wire::lines()).await;
        let custom = Wire::custom("ld", tokio_util::codec::LengthDelimitedCodec::new);
        let mut custom = join_wire(&mesh, custom).await;
        let payloads: Vec<Bytes> = (0..2000)
            .map(|n| match n % 100 {
                1 => Bytes::new(),
                2 => "a\nb".into(),
                3 => vec![b'x'; 100_001].into(),
                4 => vec![b'y'; 5000].into(),
                5 => vec![b'z'; 100_000].into(),
                _ => format!("payload {n}").into(),
            })
            .collect();
        let good: Vec<Bytes> = payloads
            .iter()
            .filter(|p| p.len() <= 100_000)
            .cloned()
            .collect();
        let for_lines: Vec<Bytes> = good
            .iter()
            .filter(|p| !p.contains(&b'\n'))
            .cloned()
            .collect();
        let peers = mesh.peers().clone();
        let all = payloads.clone();
        let sending = tokio::spawn(async move { peers.broadcast_payloads(all).await });
        let mut nonces = Vec::new();
        let mut expected_lines = Vec::new();
        for p in &for_lines {
            expected_lines.extend_from_slice(p);
            expected_lines.push(b'\n');
        }
        let mut expected_custom = Vec::new();
        for p in &good {
            expected_custom.extend_from_slice(&(p.len() as u32).to_be_bytes());
            expected_custom.extend_from_slice(p);
        }
        let read_lines = async {
            let mut v = vec![0; expected_lines.len()];
            lines.read_exact(&mut v).await.unwrap();
            assert!(v == expected_lines);
        };
        let read_custom = async {
            let mut v = vec![0; expected_custom.len()];
            custom.read_exact(&mut v).await.unwrap();
            assert!(v == expected_custom);
        };
        let read_native = async {
            for p in &good {
                let got = native.recv_frame().await.unwrap();
                let Kind::Broadcast { nonce } = got.kind else {
                    panic!()
                };
                nonces.push(nonce);
                assert_eq!(&got.payload, p);
            }
        };
        tokio::join!(read_lines, read_custom, read_native);
        let sent = sending.await.unwrap();
        let bad = payloads.len() - good.len();
        assert_eq!(sent.queued, 2 * good.len() + for_lines.len());
        assert_eq!(sent.dropped, 3 * payloads.len() - sent.queued);
        assert!(bad > 0);
        let n = nonces.len();
        nonces.sort_unstable();
        nonces.dedup();
        assert_eq!(nonces.len(), n);
        if hooked {
            let told = told.lock().unwrap();
            assert_eq!(told.len(), 2 * payloads.len());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let stats = mesh.stats();
        assert_eq!(
            (stats.sent as usize, stats.dropped as usize),
            (sent.queued, sent.dropped)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_peers_and_readers_with_little_room() {
    for inbox in [1, 2000, 200_000] {
        let mesh = App::new()
            .configure(|c| c.inbox = inbox)
            .start()
            .await
            .unwrap();
        const PEERS: u64 = 6;
        const EACH: u64 = 20_000;
        let mut tasks = Vec::new();
        let (tx, mut rx) = tokio::sync::mpsc::unbounded_channel();
        let _keep = mesh.reader();
        for r in 0..3 {
            let mut reader = mesh.reader();
            let tx = tx.clone();
            let mesh = mesh.clone();
            tasks.push(tokio::spawn(async move {
                let mut n = 0_u64;
                while let Some(frame) = reader.next_frame().await {
                    n += 1;
                    let _ = tx.send(frame.nonce().unwrap());
                    if n % 1000 == 0 && r == 0 {
                        drop(reader);
                        tokio::task::yield_now().await;
                        reader = mesh.reader();
                    }
                    if n % 777 == 0 && r == 1 {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                }
            }));
        }
        for p in 0..PEERS {
            let mut peer = join(&mesh).await;
            tasks.push(tokio::spawn(async move {
                for chunk in 0..EACH / 500 {
                    let packets: Vec<_> = (0..500)
                        .map(|n| {
                            packet(
                                Kind::Broadcast {
                                    nonce: p * EACH + chunk * 500 + n,
                                },
                                vec![0; (n % 50) as usize],
                            )
                        })
                        .collect();
                    peer.framed
                        .get_mut()
                        .write_all(&on_the_wire(&packets))
                        .await
                        .unwrap();
                }
                std::future::pending::<()>().await;
            }));
        }
        let mut seen = vec![false; (PEERS * EACH) as usize];
        for _ in 0..PEERS * EACH {
            let nonce = tokio::time::timeout(Duration::from_secs(20), rx.recv())
                .await
                .expect("stuck")
                .unwrap();
            assert!(!std::mem::replace(&mut seen[nonce as usize], true), "twice");
        }
        for task in tasks {
            task.abort();
        }
    }
}
