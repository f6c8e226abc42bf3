//! Meshes whose nodes find each other, in memory and on paused time.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use coalescent_core::event::Events;
use coalescent_core::test_util::Recorder;
use coalescent_core::transport::Memory;
use coalescent_core::{Address, App, AppExt, Event, Mesh, NodeId, Peer, Plugin, Registrar, Source};
use coalescent_layers::discovery::Discovery;
use coalescent_layers::discovery::book::{BUCKET_PLACES, Book, NEW_BUCKETS_OF_SOURCE};
use coalescent_layers::discovery::exchange::{CHANNEL, ExchangeMessage, MAX_ADDRESSES};
use coalescent_layers::{Courier, MeshExt, SmartRelay};
use tokio::time::{Instant, sleep, timeout};

/// Only failing tests wait so long.
const DEADLINE: Duration = Duration::from_secs(30 * 60);

fn app(network: &Memory) -> App {
    App::new().transport(network.clone()).network("discovery")
}

/// Starts a node with discovery, which listens at `addr` and knows `seeds`.
async fn node(network: &Memory, addr: &str, seeds: &[&str]) -> Mesh {
    let app = app(network).seeds(seeds).with(Discovery::new());
    let app = app.with(SmartRelay::new()).with(Courier::new());
    app.listen(addr).await.unwrap()
}

/// Waits until `done` returns true.
async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let waiting = async {
        while !done() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    let waited = timeout(DEADLINE, waiting).await;
    assert!(waited.is_ok(), "not within {DEADLINE:?}: {what}");
}

fn peers(mesh: &Mesh) -> HashSet<NodeId> {
    let peers = mesh.peers().list();
    peers.iter().filter_map(Peer::node_id).collect()
}

/// Returns whether each node is connected to each other, perhaps by others.
fn is_whole(nodes: &[Mesh]) -> bool {
    let mut reached = HashSet::from([nodes[0].id()]);
    for _ in nodes {
        for node in nodes
            .iter()
            .filter(|node| !reached.contains(&node.id()))
            .collect::<Vec<_>>()
        {
            if !peers(node).is_disjoint(&reached) {
                reached.insert(node.id());
            }
        }
    }
    nodes.iter().all(|node| reached.contains(&node.id()))
}

/// Makes sure that what one node says is heard by all others.
async fn is_heard(nodes: &[Mesh]) {
    let (first, others) = nodes.split_first().unwrap();
    let mut heard: Vec<_> = others.iter().map(Recorder::of).collect();
    let _ = first.broadcast("roll-call", &()).await.unwrap();
    for recorder in &mut heard {
        recorder.expect_message("roll-call").await;
    }
}

/// Returns the addresses that were discovered so far.
async fn discovered(events: &mut Events) -> Vec<(Address, Source)> {
    let mut found = Vec::new();
    while let Ok(Some(event)) = timeout(Duration::from_millis(1), events.next()).await {
        if let Event::Discovered { addr, source } = event {
            found.push((addr, source));
        }
    }
    found
}

#[tokio::test(start_paused = true)]
async fn a_node_learns_of_the_peers_of_its_peers() {
    let network = Memory::new();
    let c = node(&network, "carol:3", &[]).await;
    let b = node(&network, "bob:2", &["carol:3"]).await;
    until("bob knows carol", || peers(&b).contains(&c.id())).await;
    let a = node(&network, "alice:1", &["bob:2"]).await;
    let mut events = a.events();
    until("alice finds carol", || peers(&a).contains(&c.id())).await;
    let found = discovered(&mut events).await;
    // Carol is known by what bob has dialled, and by what she says herself.
    let carol = ["carol:3", "127.0.0.1:3"].map(|text| text.parse().unwrap());
    assert!(!found.is_empty());
    for (addr, source) in found {
        assert_eq!(source, Source::PEERS, "{addr}");
        assert!(carol.contains(&addr), "{addr}");
    }
    is_heard(&[a, b, c]).await;
}

#[tokio::test(start_paused = true)]
async fn a_mesh_outlives_its_seeds_and_takes_newcomers_that_know_any_member() {
    const NODES: usize = 12;
    let network = Memory::new();
    let seeds = [
        node(&network, "seed:1", &[]).await,
        node(&network, "seed:2", &["seed:1"]).await,
    ];
    let mut nodes = Vec::new();
    for at in 0..NODES {
        let seed = format!("seed:{}", 1 + at % 2);
        nodes.push(node(&network, "node:0", &[&seed]).await);
    }
    let start = Instant::now();
    until("each has three peers, one of them no seed", || {
        let seeds: HashSet<_> = seeds.iter().map(Mesh::id).collect();
        nodes
            .iter()
            .all(|node| peers(node).len() >= 3 && !peers(node).is_subset(&seeds))
    })
    .await;
    println!("three peers each after {:?}", start.elapsed());
    for seed in &seeds {
        seed.abort().await;
    }
    let start = Instant::now();
    until("the mesh is whole without its seeds", || is_whole(&nodes)).await;
    println!("whole without the seeds after {:?}", start.elapsed());
    is_heard(&nodes).await;

    for at in [0, NODES / 2, NODES - 1] {
        let known = nodes[at].local_addrs()[0].to_string();
        let newcomer = node(&network, "newcomer:0", &[&known]).await;
        until("the newcomer has three peers", || {
            peers(&newcomer).len() >= 3
        })
        .await;
        nodes.push(newcomer);
        until("the newcomers are members", || is_whole(&nodes)).await;
        is_heard(&nodes).await;
    }

    // Whom the newcomers began with is gone, too.
    for at in [NODES - 1, NODES / 2, 0] {
        nodes.swap_remove(at).abort().await;
    }
    until("the mesh is whole without some of its members", || {
        is_whole(&nodes)
    })
    .await;
    is_heard(&nodes).await;
}

/// A plugin that answers each ask with as many new addresses, at which nobody is.
#[derive(Default)]
struct Liar {
    told: Arc<AtomicU64>,
    /// How many tells it sends for each ask.
    tells: u64,
}

impl Plugin for Liar {
    fn register(&self, app: &mut Registrar) {
        let (told, tells) = (Arc::clone(&self.told), self.tells);
        app.channel(CHANNEL, move |peer: Peer, _: Bytes| {
            let told = Arc::clone(&told);
            async move {
                for _ in 0..tells {
                    let first = told.fetch_add(MAX_ADDRESSES as u64, Relaxed);
                    let invented = (first..).map(invented).take(MAX_ADDRESSES);
                    let tell = ExchangeMessage::Tell(invented.collect()).encode();
                    if peer.send_on(CHANNEL, tell).await.is_err() {
                        // Disconnected.
                        return;
                    }
                }
            }
        });
    }
}

fn invented(number: u64) -> Address {
    let [.., a, b, c] = number.to_be_bytes();
    let first = 20 + a % 80;
    format!("{first}.{b}.{c}.1:9").parse().unwrap()
}

/// Counts the dials of a node.
#[derive(Default)]
struct Dials(Arc<AtomicU64>);

impl Plugin for Dials {
    fn register(&self, app: &mut Registrar) {
        let dials = Arc::clone(&self.0);
        app.on_dial(move |dial| {
            let learned = dial.source() != Source::SEED;
            dials.fetch_add(learned.into(), Relaxed);
        });
    }
}

/// Starts a node that knows a liar and, if need be, an honest node; and returns it with the number
/// of its dials.
async fn victim(network: &Memory, seeds: &[&str]) -> (Mesh, Arc<AtomicU64>) {
    let dials = Dials::default();
    let count = Arc::clone(&dials.0);
    // The addresses told are on the internet.
    let app = app(network).allow_plaintext().seeds(seeds).plugin(dials);
    let mesh = app.with(Discovery::new()).listen("victim:0").await;
    (mesh.unwrap(), count)
}

#[tokio::test(start_paused = true)]
async fn a_liar_costs_a_bounded_number_of_dials_and_bounded_memory() {
    let network = Memory::new();
    let liar = Liar {
        tells: 1,
        ..Liar::default()
    };
    let told = Arc::clone(&liar.told);
    let liar = app(&network).plugin(liar).listen("liar:1").await.unwrap();
    let honest = node(&network, "honest:2", &[]).await;
    let (victim, dials) = victim(&network, &["liar:1", "honest:2"]).await;
    let mut events = victim.events();
    let start = Instant::now();
    let hours = Duration::from_secs(3 * 60 * 60);
    let mut found = HashSet::new();
    while start.elapsed() < hours {
        sleep(Duration::from_secs(60)).await;
        found.extend(discovered(&mut events).await);
        let seconds = start.elapsed().as_secs();
        let most = 64 + seconds / 10;
        assert!(found.len() as u64 <= most, "{} discovered", found.len());
        let dials = dials.load(Relaxed);
        assert!(dials <= 8 + seconds, "{dials} dials in {seconds} s");
    }
    let book = victim.get::<Book>().unwrap().len();
    println!(
        "{} told, {book} in the book, {} discovered, {} dials in {hours:?}",
        told.load(Relaxed),
        found.len(),
        dials.load(Relaxed)
    );
    assert!(book <= NEW_BUCKETS_OF_SOURCE * BUCKET_PLACES + 8);
    // It keeps to the rules, so it stays; and so does everybody else.
    assert_eq!(peers(&victim), [liar.id(), honest.id()].into());
}

#[tokio::test(start_paused = true)]
async fn a_liar_that_tells_ten_thousands_at_once_is_disconnected() {
    let network = Memory::new();
    let liar = Liar {
        tells: 100_000 / MAX_ADDRESSES as u64,
        ..Liar::default()
    };
    let liar = app(&network).plugin(liar).listen("liar:1").await.unwrap();
    let honest = node(&network, "honest:2", &[]).await;
    let (victim, dials) = victim(&network, &["liar:1", "honest:2"]).await;
    let mut events = victim.events();
    let start = Instant::now();
    let gone = async {
        loop {
            match events.next().await {
                Some(Event::PeerDisconnected { peer, .. }) => return peer,
                Some(_) => {}
                None => panic!("the mesh has ended"),
            }
        }
    };
    let gone = timeout(DEADLINE, gone).await.expect("disconnected");
    assert_eq!(gone.node_id(), Some(liar.id()));
    assert!(start.elapsed() < Duration::from_secs(10));
    // It is a seed, so it is dialled again and again, and each time it does the same.
    sleep(Duration::from_secs(60)).await;
    let seconds = start.elapsed().as_secs();
    let book = victim.get::<Book>().unwrap().len();
    let dials = dials.load(Relaxed);
    println!("{book} in the book, {dials} dials in {seconds} s");
    assert!(dials <= 8 + seconds);
    assert!(book <= NEW_BUCKETS_OF_SOURCE * BUCKET_PLACES + 8);
    assert!(peers(&victim).contains(&honest.id()));
}

#[tokio::test(start_paused = true)]
async fn without_the_exchange_a_node_asks_nobody_and_tells_nothing() {
    let network = Memory::new();
    let quiet = |seeds: &'static [&'static str]| {
        let app = app(&network).seeds(seeds);
        app.with(Discovery::new().exchange(false))
    };
    let b = quiet(&[]).listen("bob:2").await.unwrap();
    let a = quiet(&["bob:2"]).listen("alice:1").await.unwrap();
    until("alice knows bob", || peers(&a).contains(&b.id())).await;
    let peer = a.peers().list()[0].clone();
    assert!(!peer.has_channel(CHANNEL));
    assert!(a.get::<Book>().is_some());
}

/// With identities, an address is told with the key that the peer there has proven.
#[cfg(feature = "tls")]
#[tokio::test(start_paused = true)]
async fn addresses_are_told_with_the_keys_of_their_peers() {
    use coalescent_core::identity::Identity;

    let network = Memory::new();
    let start = async |addr: &str, seeds: &[&str]| {
        let app = app(&network).identity(Identity::generate());
        let app = app.seeds(seeds).with(Discovery::new());
        app.listen(addr).await.unwrap()
    };
    let c = start("carol:3", &[]).await;
    let b = start("bob:2", &["carol:3"]).await;
    until("bob knows carol", || peers(&b).contains(&c.id())).await;
    let a = start("alice:1", &["bob:2"]).await;
    let mut events = a.events();
    until("alice finds carol", || peers(&a).contains(&c.id())).await;
    let key = c.public_key();
    let found = discovered(&mut events).await;
    assert!(!found.is_empty());
    for (addr, _) in found {
        assert_eq!(addr.id(), key, "{addr}");
    }
}

#[tokio::test(start_paused = true)]
async fn three_that_know_one_seed_stay_together_when_it_ends() {
    // Whatever places the secrets of their books give them.
    for turn in 0..20 {
        let network = Memory::new();
        let seed = node(&network, "seed:1", &[]).await;
        let mut nodes = Vec::new();
        for _ in 0..3 {
            let node = node(&network, "node:0", &["seed:1"]).await;
            until("it knows the seed", || peers(&node).contains(&seed.id())).await;
            nodes.push(node);
        }
        sleep(Duration::from_secs(20)).await;
        seed.abort().await;
        sleep(Duration::from_secs(5)).await;
        assert!(is_whole(&nodes), "turn {turn}");
        is_heard(&nodes).await;
    }
}
