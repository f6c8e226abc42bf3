//! Liars and Sybils: what they cost, and how far they get.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use coalescent::discovery::book::Book;
use coalescent::{App, AppExt, Direction, Discovery, Mesh, Peer, Plugin, Registrar};
use support::internet::Internet;
use tokio::time::Instant;

use super::MINUTE;
use super::nodes::PORT;

/// How many addresses the liar tells.
const LIES: u32 = 100_000;

/// How many addresses one message tells.
const EACH: u32 = 64;

/// How many peers claim to be many.
const SYBILS: u8 = 20;

/// Tells of addresses, asked or not.
struct Liar {
    /// What it tells of, made from a number that is new each time.
    address: fn(u32) -> String,
    told: Arc<AtomicU64>,
    /// Whether it waits to be asked.
    polite: bool,
}

impl Plugin for Liar {
    fn register(&self, app: &mut Registrar) {
        let (address, told) = (self.address, Arc::clone(&self.told));
        app.channel("peers/1", move |peer, _asked| {
            let tell = next_tell(address, &told, EACH);
            async move {
                let _ = peer.send_on("peers/1", tell).await;
            }
        });
        if self.polite {
            return;
        }
        let (address, told) = (self.address, Arc::clone(&self.told));
        app.on_connect(move |peer| {
            let told = Arc::clone(&told);
            async move {
                tokio::spawn(flood(peer, address, told));
            }
        });
    }
}

async fn flood(peer: Peer, address: fn(u32) -> String, told: Arc<AtomicU64>) {
    while told.load(Relaxed) < u64::from(LIES) {
        let tell = next_tell(address, &told, EACH);
        if peer.send_on("peers/1", tell).await.is_err() {
            return;
        }
    }
}

/// Encodes a message that tells of the next addresses: `["tell", [address, ..]]`.
fn next_tell(address: fn(u32) -> String, told: &AtomicU64, count: u32) -> Bytes {
    let first = told.fetch_add(u64::from(count), Relaxed);
    let first = u32::try_from(first).expect("not so many");
    let addresses: Vec<String> = (first..first + count).map(address).collect();
    let message = rmp_serde::to_vec(&("tell", addresses)).expect("texts");
    message.into()
}

/// The n-th address that nobody is at, each in a network of its own as far as there are any.
fn nowhere(n: u32) -> String {
    let [a, b, c, d] = (0x5000_0001_u32.wrapping_add(n.wrapping_mul(0x0001_0003))).to_be_bytes();
    format!("{}:{PORT}", Ipv4Addr::new(80 + a % 64, b, c, d))
}

fn host(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    Ipv4Addr::new(a, b, c, d).into()
}

async fn node(internet: &Internet, ip: IpAddr, min_peers: usize, seeds: &[IpAddr]) -> Mesh {
    App::new()
        .transport(internet.host(ip))
        .allow_plaintext()
        .min_peers(min_peers)
        .seeds(seeds.iter().map(|ip| format!("{ip}:{PORT}")))
        .plugin(Discovery::new())
        .listen(format!("{ip}:{PORT}"))
        .await
        .expect("a node that starts")
}

async fn lies(polite: bool) -> (u64, Duration) {
    let internet = Internet::new();
    let (liar, victim) = (host(50, 1, 0, 1), host(51, 1, 0, 1));
    let told = Arc::new(AtomicU64::new(0));
    let plugin = Liar {
        address: nowhere,
        told: Arc::clone(&told),
        polite,
    };
    let _liar = App::new()
        .transport(internet.host(liar))
        .allow_plaintext()
        .plugin(plugin)
        .listen(format!("{liar}:{PORT}"))
        .await
        .expect("a liar that starts");
    let victim = node(&internet, victim, 8, &[liar]).await;
    let start = Instant::now();
    let book = victim.get::<Book>().expect("it has a book");
    let mut most = 0;
    for _ in 0..120 {
        tokio::time::sleep(MINUTE / 2).await;
        most = most.max(book.len());
    }
    let passed = start.elapsed();
    let dials = internet.dials_to(|addr| addr.ip() != liar);
    println!(
        "{}: told {} addresses within {passed:?}; at most {most} in the book, {dials} dials",
        if polite { "polite" } else { "rude" },
        told.load(Relaxed),
    );
    // The table has 64 x 16 places for addresses that were heard of, and each tells of one.
    assert!(most <= 8 * 16, "one source has {most} places");
    (dials, passed)
}

#[tokio::test(start_paused = true)]
async fn a_liar_costs_a_bounded_rate_of_dials_and_a_bounded_book() {
    for polite in [true, false] {
        let (dials, passed) = lies(polite).await;
        // One learned address a second, 8 at once.
        assert!(dials <= 8 + passed.as_secs(), "{dials} dials in {passed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn twenty_sybils_of_one_network_hold_one_outbound_place() {
    let internet = Internet::new();
    let sybil = |n: u8| host(66, 6, n, 1);
    let honest: Vec<IpAddr> = (0..4).map(|n| host(60 + n, 1, 0, 1)).collect();
    let mut meshes = Vec::new();
    for ip in &honest {
        meshes.push(node(&internet, *ip, 3, &honest[..1]).await);
    }
    // They know each other, and tell everybody of each other.
    let sybils: Vec<IpAddr> = (0..SYBILS).map(sybil).collect();
    for ip in &sybils {
        let all = [&honest[..1], &sybils[..]].concat();
        meshes.push(node(&internet, *ip, 12, &all).await);
    }
    let victim = node(&internet, host(70, 1, 0, 1), 8, &honest[..1]).await;
    let is_sybil = |peer: &Peer| {
        let addr = peer.addr().map(|addr| addr.ip());
        addr.is_some_and(|ip| sybils.contains(&ip))
    };
    let mut seen = 0;
    for second in 0..3_600 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let peers = victim.peers().list();
        let outbound = peers
            .iter()
            .filter(|peer| peer.direction() == Direction::Outbound);
        let (theirs, ours): (Vec<&Peer>, Vec<&Peer>) = outbound.partition(|peer| is_sybil(peer));
        assert!(
            theirs.len() <= 1,
            "{} places after {second} s",
            theirs.len()
        );
        seen = seen.max(theirs.len());
        if second == 3_599 {
            println!(
                "after an hour: {} Sybils, {} others",
                theirs.len(),
                ours.len()
            );
        }
    }
    assert_eq!(seen, 1, "they were never dialled, so this shows nothing");
}
