//! Swarms that find each other: seeds die, nodes come back with their books, the network splits,
//! liars tell of what is not there. Whole nodes on an internet in memory and on paused time.

mod hostile;
mod nodes;

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use coalescent::Direction;
use coalescent::discovery::book::Book;
use nodes::{PORT, Swarm};
use rand::seq::SliceRandom;

const NODES: usize = 30;

/// How many peers a node asks for by default.
const MIN_PEERS: usize = 3;

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_swarm_outlives_its_seeds_and_takes_newcomers_that_know_any_member() {
    let mut swarm = Swarm::of(1, NODES, 2).await;
    let whole = |swarm: &Swarm| swarm.is_whole(MIN_PEERS);
    swarm
        .until("30 nodes find each other", 5 * MINUTE, whole)
        .await;
    // Time to ask each other, as a swarm in use has.
    tokio::time::sleep(15 * MINUTE).await;
    for seed in [0, 1] {
        swarm.kill(seed).await;
    }
    swarm.until("the seeds are dead", 5 * MINUTE, whole).await;
    for _ in 0..5 {
        let member = swarm.any();
        swarm.add(&[member]).await;
    }
    swarm.until("five newcomers", 5 * MINUTE, whole).await;
    // The members that the newcomers knew may go, too.
    let mut old: Vec<usize> = swarm.alive().into_iter().filter(|n| *n < NODES).collect();
    old.shuffle(&mut swarm.rng);
    for node in old.drain(..14) {
        swarm.kill(node).await;
    }
    swarm
        .until("half of the old nodes are dead", 10 * MINUTE, whole)
        .await;
    let from = swarm.any();
    swarm.hears_all(from).await;
}

#[tokio::test(start_paused = true)]
async fn nodes_come_back_with_their_books_and_no_seed() {
    let mut swarm = Swarm::of(2, NODES, 2).await;
    let whole = |swarm: &Swarm| swarm.is_whole(MIN_PEERS);
    swarm
        .until("30 nodes find each other", 5 * MINUTE, whole)
        .await;
    tokio::time::sleep(15 * MINUTE).await;
    let mut some: Vec<usize> = (0..NODES).collect();
    some.shuffle(&mut swarm.rng);
    some.truncate(NODES * 3 / 10);
    for node in &some {
        swarm.stop(*node).await;
    }
    for node in &some {
        swarm.start(*node, &[]).await;
    }
    swarm.until("30 % are back", 2 * MINUTE, whole).await;
    // Without warning, and all of the others gone but a third: only the books are left.
    tokio::time::sleep(15 * MINUTE).await;
    let killed: HashSet<usize> = swarm.alive().into_iter().filter(|n| n % 3 != 0).collect();
    for node in &killed {
        swarm.kill(*node).await;
    }
    for node in &killed {
        swarm.start(*node, &[]).await;
    }
    swarm.until("two thirds are back", 5 * MINUTE, whole).await;
    let from = swarm.any();
    swarm.hears_all(from).await;
}

#[tokio::test(start_paused = true)]
async fn a_partition_heals() {
    let mut swarm = Swarm::new(3);
    // So few that each half finds enough within itself, and nobody misses the other.
    swarm.min_peers = 2;
    swarm.grow(NODES, 2).await;
    let whole = |swarm: &Swarm| swarm.is_whole(2);
    swarm
        .until("30 nodes find each other", 5 * MINUTE, whole)
        .await;
    tokio::time::sleep(15 * MINUTE).await;
    // Both seeds are in the other half.
    swarm.internet.split(1, (NODES / 2..NODES).map(Swarm::ip));
    let halves = |swarm: &Swarm| {
        let enough = |node: &usize| swarm.mesh(*node).peers().len() >= 2;
        swarm.islands().len() == 2 && swarm.alive().iter().all(enough)
    };
    swarm.until("two halves", 10 * MINUTE, halves).await;
    tokio::time::sleep(30 * MINUTE).await;
    assert!(halves(&swarm));
    swarm.internet.heal();
    swarm.until("the partition heals", 10 * MINUTE, whole).await;
    swarm.hears_all(0).await;
    swarm.hears_all(NODES - 1).await;
}

/// The nodes that a node has dialled and is connected to.
fn dialled_by(swarm: &Swarm, node: usize) -> HashSet<IpAddr> {
    let peers = swarm.mesh(node).peers().list();
    let dialled = peers
        .iter()
        .filter(|peer| peer.direction() == Direction::Outbound);
    dialled
        .filter_map(|peer| peer.addr().map(|addr| addr.ip()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_enough_peers_exchanges_one_of_them() {
    let mut swarm = Swarm::new(4);
    // They dial nobody.
    swarm.min_peers = 0;
    swarm.grow(6, 0).await;
    swarm.min_peers = 1;
    let node = swarm.add(&[0]).await;
    let seed = Swarm::ip(0);
    let one = |swarm: &Swarm| dialled_by(swarm, node).len() == 1;
    swarm.until("it has its seed", MINUTE, one).await;
    let book = swarm.mesh(node).get::<Book>().expect("it has a book");
    for other in 1..6 {
        let address = format!("{}:{PORT}", Swarm::ip(other)).parse();
        assert!(book.declared(&address.expect("an address")));
    }
    let mut seen = HashSet::new();
    for _ in 0..5 {
        let before = dialled_by(&swarm, node);
        let exchanged = |swarm: &Swarm| {
            let now = dialled_by(swarm, node);
            now.len() == 2 && now != before && now.contains(&seed)
        };
        swarm.until("another peer", 15 * MINUTE, exchanged).await;
        seen.extend(dialled_by(&swarm, node));
    }
    assert!(seen.len() >= 3, "{seen:?}");
}
