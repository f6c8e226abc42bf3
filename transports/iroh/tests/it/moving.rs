//! Peers that do not stay where they were.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use coalescent::{Event, PeerId};
use coalescent_iroh::Quiet;
use iroh::address_lookup::memory::MemoryLookup;
use iroh::{Endpoint, EndpointAddr, EndpointId, TransportAddr};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::support::{
    app, builder, endpoint, in_subnet, key, listening, secret, socket, soon, until,
};

/// A router between two subnets of loopback that gives the packets of those behind it a port of its
/// own, and a new one on demand.
struct NatRouter {
    /// Where to send packets.
    addr: SocketAddr,
    renumber: mpsc::Sender<()>,
    /// How many ports have carried packets.
    used: Arc<AtomicUsize>,
}

impl NatRouter {
    async fn new(there: SocketAddr) -> Self {
        let inside = UdpSocket::bind("127.0.1.1:0").await.expect("a socket");
        let addr = inside.local_addr().expect("an address");
        let (renumber, mut demands) = mpsc::channel(1);
        let used = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&used);
        tokio::spawn(async move {
            let mut outside = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
            let (mut out, mut back) = ([0; 2048], [0; 2048]);
            let (mut sender, mut is_new) = (None, true);
            loop {
                tokio::select! {
                    Ok((length, from)) = inside.recv_from(&mut out) => {
                        sender = Some(from);
                        count.fetch_add(usize::from(is_new), Relaxed);
                        is_new = false;
                        let _ = outside.send_to(&out[..length], there).await;
                    }
                    Ok((length, _)) = outside.recv_from(&mut back) => {
                        if let Some(sender) = sender {
                            let _ = inside.send_to(&back[..length], sender).await;
                        }
                    }
                    demand = demands.recv() => {
                        let Some(()) = demand else { return };
                        outside = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
                        is_new = true;
                    }
                }
            }
        });
        Self {
            addr,
            renumber,
            used,
        }
    }
}

#[tokio::test]
async fn a_peer_whose_router_gives_it_another_port_stays_connected() {
    let there = in_subnet("127.0.0.1:0").bind().await.expect("an endpoint");
    let here = in_subnet("127.0.1.2:0").bind().await.expect("an endpoint");
    let router = NatRouter::new(socket(&there)).await;
    let alice = listening(app(&there)).await;
    let (mut heard, mut events) = (alice.reader(), alice.events());
    let bob = app(&here).start().await.expect("a node");
    let address = format!("iroh:{}?addr={}", there.id(), router.addr);
    bob.connect(&address).await.expect("a peer");
    for number in 0..10 {
        let text = number.to_string();
        let _ = bob.broadcast_payload(text.clone()).await.expect("a mesh");
        let frame = soon("the frame", heard.next_frame())
            .await
            .expect("a frame");
        assert_eq!(frame.payload(), text.as_bytes());
        until("it came by this port", || {
            router.used.load(Relaxed) == number + 1
        })
        .await;
        router.renumber.send(()).await.expect("a router");
    }
    bob.shutdown().await;
    alice.shutdown().await;
    let mut connections = 0;
    while let Some(event) = events.next().await {
        connections += usize::from(matches!(event, Event::PeerConnected { .. }));
    }
    assert_eq!(connections, 1);
}

fn place(id: EndpointId, addr: SocketAddr) -> EndpointAddr {
    EndpointAddr::from_parts(id, [TransportAddr::Ip(addr)])
}

#[tokio::test]
async fn a_seed_that_comes_back_elsewhere_is_found_by_its_key() {
    let lookup = MemoryLookup::new();
    let first = builder()
        .secret_key(secret(9))
        .bind()
        .await
        .expect("an endpoint");
    lookup.add_endpoint_info(place(first.id(), socket(&first)));
    let here = builder()
        .address_lookup(lookup.clone())
        .bind()
        .await
        .expect("an endpoint");

    let alice = listening(app(&first)).await;
    let seed = format!("iroh:{}", first.id());
    let bob = app(&here).seeds([seed]).start().await.expect("a node");
    soon("alice", bob.connected(1)).await.expect("a mesh");
    let before = bob.peers().list()[0].clone();
    alice.shutdown().await;
    let old = socket(&first);
    // Whoever takes the port cannot stand in for it.
    first.close().await;
    drop((alice, first));
    until("alice has gone", || !before.is_connected()).await;

    let second = builder()
        .secret_key(secret(9))
        .bind()
        .await
        .expect("an endpoint");
    assert_ne!(socket(&second), old);
    lookup.set_endpoint_info(place(second.id(), socket(&second)));
    let _alice = listening(app(&second)).await;
    soon("alice again", bob.connected(1)).await.expect("a mesh");
    let list: Vec<PeerId> = bob.peers().list().iter().map(|peer| *peer.id()).collect();
    assert_eq!(list, [key(&second)]);
}

#[tokio::test]
async fn a_seed_is_redialled_when_it_comes_back_at_the_same_place() {
    let first = builder()
        .secret_key(secret(8))
        .bind()
        .await
        .expect("an endpoint");
    let addr = socket(&first);
    let here = endpoint().await;
    let alice = listening(app(&first)).await;
    let seed = format!("iroh:{}?addr={addr}", first.id());
    let bob = app(&here).seeds([seed]).start().await.expect("a node");
    soon("alice", bob.connected(1)).await.expect("a mesh");
    alice.abort().await;
    first.close().await;
    drop((alice, first));
    until("alice has gone", || bob.peers().is_empty()).await;
    // The port is free once the last task of the endpoint has ended.
    let again = soon("the same port", async {
        loop {
            let again = Endpoint::builder(Quiet)
                .clear_ip_transports()
                .secret_key(secret(8));
            match again.bind_addr(addr).expect("an address").bind().await {
                Ok(again) => return again,
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        }
    });
    let again = again.await;
    let _alice = listening(app(&again)).await;
    soon("alice again", bob.connected(1)).await.expect("a mesh");
}
