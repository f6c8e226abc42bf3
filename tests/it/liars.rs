//! A mesh of 30 with three liars: every honest message arrives once, the liars are shown the door,
//! and nobody else. Whole nodes on an internet in memory and on paused time.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use coalescent::identity::Identity;
use coalescent::{
    App, AppExt, Courier, Event, Frame, Mesh, MeshExt, MeshReader, PeerLayer, Signed, SmartRelay,
    Validate, Verdict,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::internet::Internet;
use tokio::time::{sleep, timeout};

const HONEST: usize = 27;
const LIARS: usize = 3;
const PORT: u16 = 1337;

/// How many messages each honest node says while the liars are there, and as many when they are
/// gone.
const MESSAGES: usize = 10;

/// How many neighbours a liar has at the beginning.
const NEIGHBOURS: usize = 5;

fn ip(node: usize) -> IpAddr {
    let node = u8::try_from(node).expect("not so many nodes");
    Ipv4Addr::new(40 + node, 7, 0, 1).into()
}

fn addr(node: usize) -> String {
    format!("{}:{PORT}", ip(node))
}

/// What all nodes of this network refuse to pass on.
fn check(frame: &Frame) -> Verdict {
    match frame.message() {
        Some(message) if message.kind() == "spam" => Verdict::reject(),
        _ => Verdict::Accept,
    }
}

/// An honest node, whom it has banned, and why its peers left.
struct Node {
    mesh: Mesh,
    reader: MeshReader,
    banned: Arc<Mutex<Vec<IpAddr>>>,
}

impl Node {
    async fn start<L: PeerLayer>(app: App<L>, internet: &Internet, node: usize) -> Self {
        let app = app
            .transport(internet.host(ip(node)))
            .allow_plaintext()
            .max_inbound(HONEST + LIARS)
            .min_peers(0);
        let mesh = app.listen(addr(node)).await.expect("a node that starts");
        let banned = Arc::<Mutex<Vec<_>>>::default();
        let all = Arc::clone(&banned);
        mesh.on_event(move |event| {
            if let Event::Banned { addr, .. } = event {
                all.lock().unwrap().extend(addr.map(|addr| addr.ip()));
            }
        });
        Self {
            reader: mesh.reader(),
            mesh,
            banned,
        }
    }

    fn banned(&self) -> Vec<IpAddr> {
        self.banned.lock().unwrap().clone()
    }
}

/// Connects the honest nodes at random into one mesh with circles.
async fn connect(nodes: &[Node], rng: &mut StdRng) {
    for (number, node) in nodes.iter().enumerate().skip(1) {
        for other in [rng.random_range(0..number), rng.random_range(0..number)] {
            let connected = node.mesh.connect(&addr(other)).await;
            connected.expect("a node that listens");
        }
    }
}

/// Every honest node says its next messages, and hears all those of the others, once.
async fn all_hear_all(nodes: &mut [Node], round: usize) {
    for (node, Node { mesh, .. }) in nodes.iter().enumerate() {
        for number in 0..MESSAGES {
            let text = format!("{round}/{node}/{number}");
            let _ = mesh.broadcast("chat", &text).await.expect("short text");
            sleep(Duration::from_millis(1)).await;
        }
    }
    // Whatever is said twice has arrived by then.
    sleep(Duration::from_secs(5)).await;
    let count = nodes.len();
    for (node, Node { reader, .. }) in nodes.iter_mut().enumerate() {
        let mut heard: HashMap<String, usize> = HashMap::new();
        while let Some(frame) = reader.try_next_frame() {
            let message = frame.message().expect("the courier parsed it");
            assert_eq!(message.kind(), "chat");
            *heard.entry(message.body().expect("text")).or_default() += 1;
        }
        let all = (0..count).filter(|other| *other != node);
        let all = all.flat_map(|other| (0..MESSAGES).map(move |n| format!("{round}/{other}/{n}")));
        for text in all {
            assert_eq!(heard.remove(&text), Some(1), "node {node}: {text}");
        }
        assert!(heard.is_empty(), "node {node} heard {heard:?}");
    }
}

/// A liar: signs what nobody passes on, says again what others said, changes it, and talks junk to
/// its neighbours. It comes back when it is sent away.
async fn lie(mesh: Mesh, neighbours: Vec<usize>) {
    let mut reader = mesh.reader();
    for round in 0_u64.. {
        if mesh.peers().is_empty() {
            for neighbour in &neighbours {
                let _ = mesh.connect(&addr(*neighbour)).await;
            }
        }
        for number in 0..20 {
            let _ = mesh.broadcast("spam", &(round, number)).await;
        }
        while let Some(frame) = reader.try_next_frame() {
            // A nonce of its own, so that it is no copy.
            let _ = mesh.broadcast_payload(frame.payload_bytes()).await;
            let mut forged = frame.payload().to_vec();
            if let Some(byte) = forged.last_mut() {
                *byte ^= 1;
            }
            let _ = mesh.broadcast_payload(forged).await;
        }
        for peer in mesh.peers().list().iter() {
            let _ = peer.send_payload(Bytes::from_static(&[0xc1])).await;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn liars_are_gone_within_ten_seconds_and_nobody_else_pays() {
    let seed = std::env::var("COALESCENT_SIM_SEED").map_or(16, |seed| seed.parse().unwrap());
    println!("COALESCENT_SIM_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let internet = Internet::new();
    let mut nodes = Vec::new();
    for node in 0..HONEST {
        let identity = Identity::generate();
        let app = App::new()
            .with(SmartRelay::new())
            .with(Courier::new())
            .with(Signed::new().require().by(identity))
            .with(Validate::sync(check));
        nodes.push(Node::start(app, &internet, node).await);
    }
    connect(&nodes, &mut rng).await;
    let mut liars = Vec::new();
    for liar in HONEST..HONEST + LIARS {
        let app = App::new()
            .transport(internet.host(ip(liar)))
            .allow_plaintext()
            .min_peers(0)
            .with(Courier::new())
            .with(Signed::new().by(Identity::generate()));
        let mesh = app.start().await.expect("a liar that starts");
        let neighbours: Vec<usize> = (0..NEIGHBOURS)
            .map(|_| rng.random_range(0..HONEST))
            .collect();
        for neighbour in &neighbours {
            let _ = mesh.connect(&addr(*neighbour)).await;
        }
        assert!(!mesh.peers().is_empty());
        tokio::spawn(lie(mesh.clone(), neighbours));
        liars.push(mesh);
    }
    all_hear_all(&mut nodes, 1).await;

    let gone = async {
        while liars.iter().any(|liar| !liar.peers().is_empty()) {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(10), gone)
        .await
        .expect("the liars are gone");
    all_hear_all(&mut nodes, 2).await;
    assert!(liars.iter().all(|liar| liar.peers().is_empty()));
    let banned: Vec<IpAddr> = nodes.iter().flat_map(Node::banned).collect();
    println!("{} bans", banned.len());
    assert!(!banned.is_empty());
    let is_liar = |ip: &IpAddr| (HONEST..HONEST + LIARS).any(|liar| self::ip(liar) == *ip);
    assert!(banned.iter().all(is_liar), "{banned:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_of_another_version_is_nobodys_offence() {
    let mut rng = StdRng::seed_from_u64(17);
    let internet = Internet::new();
    let mut nodes = Vec::new();
    for node in 0..HONEST {
        // Half of the mesh takes nothing for a message that the newer one says.
        let app = App::new().with(SmartRelay::new());
        nodes.push(if node % 2 == 0 {
            Node::start(app, &internet, node).await
        } else {
            Node::start(app.with(Courier::new()), &internet, node).await
        });
    }
    connect(&nodes, &mut rng).await;
    let newer = &nodes[0].mesh;
    for number in 0..1_000_u32 {
        let mut payload = vec![0xc1];
        payload.extend(number.to_be_bytes());
        let _ = newer.broadcast_payload(payload).await.expect("it is short");
        sleep(Duration::from_millis(5)).await;
    }
    sleep(Duration::from_secs(5)).await;
    for (node, Node { mesh, reader, .. }) in nodes.iter_mut().enumerate().skip(1) {
        assert_eq!(mesh.stats().dropped, 0, "node {node}");
        if node % 2 == 0 {
            let mut heard = 0;
            while reader.try_next_frame().is_some() {
                heard += 1;
            }
            assert_eq!(heard, 1_000, "node {node}");
        }
    }
    for (node, Node { mesh, .. }) in nodes.iter().enumerate() {
        assert!(nodes[node].banned().is_empty(), "node {node}");
        assert!(
            mesh.peers().len() >= 2 || node == 0,
            "node {node} lost its peers"
        );
    }
}
