use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime};

use coalescent_core::Address;
use coalescent_core::identity::PublicKey;
use proptest::prelude::*;

use super::super::places::{
    BUCKET_PLACES, NEW_BUCKETS_OF_SOURCE, TRIED_BUCKETS_OF_GROUP, TRIED_FROM,
};
use super::*;

pub(crate) fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

pub(crate) fn address(text: &str) -> Address {
    text.parse().unwrap()
}

/// The address number `n`: each in a group of its own, as far as there are groups.
pub(crate) fn spread(n: u32) -> Address {
    let ip = Ipv4Addr::from(n.wrapping_mul(2_654_435_761));
    address(&format!("{ip}:7"))
}

fn source(n: u8) -> Group {
    Group::of_ip([198, n, 1, 1].into())
}

#[test]
fn only_addresses_of_tcp_are_kept() {
    let mut table = Table::new([1; 16], 1);
    let key = format!("iroh:{}", "ab".repeat(32));
    for text in ["ws://a:1/", "unix:/run/a", "own://a:1", &key] {
        let address = address(text);
        assert!(!table.heard(&address, &source(1), at(0)));
        assert!(!table.declared(&address, at(0)));
        table.dialled_ok(&address, at(0));
        table.set_anchors([address.clone()]);
        assert!(table.is_empty() && table.anchors().is_empty(), "{text}");
    }
    table.dialled_ok(&address("a:1"), at(0));
    assert_eq!(table.tried_len(), 1);
}

/// Finds an address other than `holder` that has the same tried place.
fn rival(table: &Table, holder: &Address) -> Address {
    let place = table.places.tried_place(holder);
    (0..)
        .map(spread)
        .find(|other| other != holder && table.places.tried_place(other) == place)
        .unwrap()
}

impl Table {
    /// Checks what always holds.
    pub(crate) fn check(&self) {
        let mut tried = 0;
        let mut count = 0;
        for (slot, entry) in self.slots.iter().enumerate() {
            let Some(entry) = entry else { continue };
            count += 1;
            let is_tried = slot >= TRIED_FROM;
            tried += usize::from(is_tried);
            let place = if is_tried {
                self.places.tried_place(&entry.address)
            } else {
                self.places.new_place(&entry.address, &entry.source)
            };
            assert_eq!(slot, place, "{} is out of its place", entry.address);
            assert!(
                !is_tried || entry.reached != 0,
                "{} was never reached",
                entry.address
            );
            assert_eq!(self.slot_of(&entry.address), Some(slot));
        }
        assert_eq!((self.len(), self.tried_len()), (count, tried));
        assert!(self.tests.len() <= MAX_TESTS && self.anchors.len() <= ANCHORS);
        for test in &self.tests {
            assert!(self.index[&test.holder] >= TRIED_FROM);
            assert!(self.index[&test.waiting] < TRIED_FROM);
        }
    }

    fn buckets(&self, tried: bool) -> HashSet<usize> {
        let slots = self.slots.iter().enumerate();
        slots
            .filter(|(slot, entry)| entry.is_some() && (*slot >= TRIED_FROM) == tried)
            .map(|(slot, _)| slot / BUCKET_PLACES)
            .collect()
    }
}

#[test]
fn what_is_heard_is_new_and_what_is_reached_is_tried() {
    let mut table = Table::new([1; 16], 1);
    assert!(table.heard(&spread(1), &source(1), at(0)));
    assert!(!table.heard(&spread(1), &source(2), at(0)));
    assert_eq!((table.len(), table.tried_len()), (1, 0));
    table.dialled_ok(&spread(1), at(1));
    assert_eq!((table.len(), table.tried_len()), (1, 1));
    // Of whom nobody has told, but who was reached, is tried at once.
    table.dialled_ok(&spread(2), at(1));
    assert_eq!((table.len(), table.tried_len()), (2, 2));
    table.dial_failed(&spread(3), at(1));
    assert_eq!(table.len(), 2);
    table.remove(&spread(2));
    assert_eq!((table.len(), table.tried_len()), (1, 1));
    table.check();
}

#[test]
fn one_host_and_port_is_one_entry() {
    let mut table = Table::new([1; 16], 1);
    let with_id = |digit| spread(1).with_id(PublicKey::from_bytes([digit; 32]).ok());
    table.heard(&with_id(1), &source(1), at(0));
    table.heard(&with_id(2), &source(2), at(0));
    assert_eq!(table.len(), 1);
    assert_eq!(table.pick(at(0), |_| true), Some(spread(1)));
    table.dialled_ok(&with_id(3), at(1));
    table.heard(&with_id(4), &source(3), at(1));
    assert_eq!(table.pick(at(1), |_| true), Some(with_id(3)));
    assert_eq!(table.len(), 1);
}

#[test]
fn a_tried_address_gives_way_only_when_a_dial_to_it_fails() {
    let mut table = Table::new([1; 16], 1);
    let holder = spread(1);
    let rival = rival(&table, &holder);
    table.dialled_ok(&holder, at(0));
    table.dial_failed(&holder, at(10));
    table.heard(&rival, &source(1), at(0));
    table.dialled_ok(&rival, at(700));
    assert_eq!(table.tried_len(), 1);
    assert!(
        table
            .entries()
            .any(|(entry, tried)| tried && entry.address == holder)
    );

    // Reached: it stays, and the other no longer waits.
    assert_eq!(table.feeler(at(700), |_| true), Some(holder.clone()));
    table.dialled_ok(&holder, at(701));
    assert_eq!(table.feeler(at(2_000), |_| true), None);
    table.dial_failed(&holder, at(2_001));
    assert!(
        table
            .entries()
            .any(|(entry, tried)| tried && entry.address == holder)
    );

    // Not reached: the two change places.
    table.dialled_ok(&rival, at(3_000));
    assert_eq!(table.feeler(at(3_000), |_| true), Some(holder.clone()));
    table.dial_failed(&holder, at(3_001));
    assert!(
        table
            .entries()
            .any(|(entry, tried)| tried && entry.address == rival)
    );
    assert!(
        table
            .entries()
            .any(|(entry, tried)| !tried && entry.address == holder)
    );
    table.check();
}

#[test]
fn a_rival_that_cannot_be_reached_itself_stops_waiting() {
    let mut table = Table::new([1; 16], 1);
    let holder = spread(1);
    let rival = rival(&table, &holder);
    table.dialled_ok(&holder, at(0));
    table.dialled_ok(&rival, at(1));
    table.dial_failed(&rival, at(2));
    table.dial_failed(&holder, at(3));
    assert!(
        table
            .entries()
            .any(|(entry, tried)| tried && entry.address == holder)
    );
    table.check();
}

#[test]
fn a_feeler_is_for_those_never_reached() {
    let mut table = Table::new([1; 16], 1);
    assert_eq!(table.feeler(at(0), |_| true), None);
    table.dialled_ok(&spread(1), at(0));
    assert_eq!(table.feeler(at(1_000), |_| true), None);
    table.heard(&spread(2), &source(1), at(0));
    assert_eq!(
        table.feeler(at(1_000), |address| *address != spread(2)),
        None
    );
    assert_eq!(table.feeler(at(1_000), |_| true), Some(spread(2)));
    table.dial_failed(&spread(2), at(1_000));
    assert_eq!(table.feeler(at(1_001), |_| true), None, "not again at once");
    assert_eq!(table.feeler(at(2_000), |_| true), Some(spread(2)));
    for n in 0..3 {
        table.dialled_ok(&spread(1), at(3_000 + n));
        table.dial_failed(&spread(2), at(3_000 + n));
    }
    assert_eq!(table.feeler(at(9_000), |_| true), None, "it never answers");
}

#[test]
fn picks_are_half_tried_and_half_new() {
    let mut table = Table::new([1; 16], 1);
    for n in 0..200 {
        table.heard(&spread(n), &source(n as u8), at(0));
    }
    table.dialled_ok(&spread(0), at(0));
    let tried = (0..1_000)
        .filter(|_| table.pick(at(1_000), |_| true) == Some(spread(0)))
        .count();
    assert!((400..600).contains(&tried), "{tried}");
    assert_eq!(
        table.pick(at(0), |address| *address == spread(0)),
        Some(spread(0))
    );
    assert_eq!(table.pick(at(0), |_| false), None);
}

#[test]
fn picks_are_the_same_for_a_seed_and_avoid_who_failed() {
    let fill = |seed| {
        let mut table = Table::new([1; 16], seed);
        for n in 0..8 {
            table.heard(&spread(n), &source(1), at(0));
        }
        table
    };
    let (mut one, mut same) = (fill(1), fill(1));
    for _ in 0..50 {
        assert_eq!(one.pick(at(0), |_| true), same.pick(at(0), |_| true));
    }
    one.dial_failed(&spread(3), at(10));
    let again = (0..1_000)
        .filter(|_| one.pick(at(11), |_| true) == Some(spread(3)))
        .count();
    assert!(again < 20, "{again}");
}

#[test]
fn a_bucket_counts_the_same_however_full_it_is() {
    // One source fills its buckets, fifty others tell one address each.
    let mut table = Table::new([3; 16], 1);
    for n in 0..20_000 {
        table.heard(&spread(n), &source(0), at(0));
    }
    let attackers = table.len();
    let mut honest = HashSet::new();
    for n in 0..50 {
        let address = address(&format!("{}.7.7.7:1", 20 + n));
        if table.heard(&address, &source(100 + n), at(0)) {
            honest.insert(address);
        }
    }
    let mut picks = 0;
    for _ in 0..2_000 {
        picks += usize::from(honest.contains(&table.pick(at(0), |_| true).unwrap()));
    }
    println!(
        "{picks} of 2000 are honest, {} of {} addresses",
        honest.len(),
        table.len()
    );
    assert!(attackers > 2 * honest.len());
    assert!(picks > 1_200, "{picks}");
}

#[test]
fn twenty_addresses_of_one_group_reach_four_tried_buckets() {
    for secret in 0..8 {
        let mut table = Table::new([secret; 16], 1);
        for n in 0..20 {
            let sybil = address(&format!("198.51.{n}.7:1337"));
            table.heard(&sybil, &source(n), at(0));
            table.dialled_ok(&sybil, at(1));
        }
        let buckets = table.buckets(true);
        assert!(
            (1..=TRIED_BUCKETS_OF_GROUP).contains(&buckets.len()),
            "{buckets:?}"
        );
        table.check();
    }
}

#[test]
fn a_flood_from_one_group_stays_in_its_buckets_and_pushes_nobody_out() {
    let mut table = Table::new([5; 16], 1);
    let known: Vec<_> = (1_000_000..1_100_000).map(spread).collect();
    let mut tried = Vec::new();
    for address in known.iter().take(100) {
        table.dialled_ok(address, at(0));
        tried.extend(
            table
                .entries()
                .any(|(e, t)| t && e.address == *address)
                .then_some(address),
        );
    }
    for (n, address) in known.iter().enumerate().skip(100).take(300) {
        table.heard(address, &Group::of(&spread(n as u32)), at(0));
    }
    let before: HashSet<_> = table
        .entries()
        .map(|(entry, _)| entry.address.clone())
        .collect();
    for n in 0..100_000 {
        table.heard(&spread(n), &source(1), at(n.into()));
    }
    table.check();
    assert!(before.iter().all(|address| table.contains(address)));
    let added = table.len() - before.len();
    assert!(added <= NEW_BUCKETS_OF_SOURCE * BUCKET_PLACES, "{added}");
    println!("{added} of 100,000 told addresses were kept");
    assert!(tried.iter().all(|address| table.contains(address)));
}

#[test]
fn a_flood_from_everywhere_is_bounded_and_leaves_tried_ones_alone() {
    let mut table = Table::new([5; 16], 1);
    for n in 0..60 {
        table.dialled_ok(&spread(1_000_000 + n), at(0));
    }
    let tried = |table: &Table| -> HashSet<_> {
        let tried = table.entries().filter(|(_, tried)| *tried);
        tried.map(|(entry, _)| entry.address.clone()).collect()
    };
    let before = tried(&table);
    for n in 0..100_000 {
        table.heard(
            &spread(n),
            &Group::of(&spread(n / 7)),
            at(u64::from(n) * 60),
        );
    }
    table.check();
    assert_eq!(tried(&table), before);
    assert!(table.len() <= BOOK_CAPACITY);
}

#[test]
fn the_clock_may_jump() {
    let mut table = Table::new([5; 16], 1);
    let (future, past) = (at(2_000_000_000), SystemTime::UNIX_EPOCH);
    for n in 0..50 {
        table.heard(&spread(n), &source(1), future);
        table.dialled_ok(&spread(100 + n), future);
        table.dial_failed(&spread(n), future);
    }
    let tried = table.tried_len();
    for now in [past, at(0), future] {
        table.check();
        assert!(table.pick(now, |_| true).is_some());
        table.feeler(now, |_| true);
        assert_eq!(table.tried_len(), tried);
    }
    assert_eq!(table.tellable(at(0)).count(), 0);
    table.dialled_ok(&spread(100), at(0));
    assert_eq!(table.tellable(at(0)).collect::<Vec<_>>(), [&spread(100)]);
    // What is from the future gives way: the same flood finds room again.
    let kept = |table: &mut Table| {
        (1_000..1_400)
            .filter(|n| table.heard(&spread(*n), &source(1), at(0)))
            .count()
    };
    assert!(kept(&mut table) > 20);
}

#[test]
fn a_table_from_a_file_takes_what_is_known_already() {
    let mut loaded = Table::new([6; 16], 1);
    loaded.dialled_ok(&spread(1), at(0));
    loaded.heard(&spread(2), &source(1), at(0));
    let loaded = Table::decode(&loaded.encode(), 1).unwrap();
    let mut table = Table::new([5; 16], 1);
    table.heard(&spread(1), &source(2), at(0));
    table.heard(&spread(3), &source(2), at(0));
    let before = table.changes();
    table.replace_by(loaded);
    table.check();
    assert!(table.changes() > before);
    assert_eq!((table.len(), table.tried_len()), (3, 1));
    let remembered = [1, 2, 3].map(|n| table.is_remembered(&spread(n)));
    assert_eq!(remembered, [true, true, false]);
}

#[test]
fn who_declares_itself_is_told_to_others() {
    let mut table = Table::new([5; 16], 1);
    assert!(table.declared(&spread(1), at(0)));
    table.heard(&spread(2), &source(1), at(0));
    assert_eq!(table.tellable(at(1)).collect::<Vec<_>>(), [&spread(1)]);
    assert_eq!(table.tellable(at(3 * 86_400)).count(), 0);
}

#[test]
fn long_names_take_no_more_memory_than_published() {
    let allocated = allocation_counter::measure(|| {
        let mut table = Table::new([5; 16], 1);
        let label = "a".repeat(63);
        for n in 0..20_000_u32 {
            let end = format!("{n:0>62}x");
            let text = format!("{label}.{label}.{}.{end}:7", "b".repeat(61));
            let address = address(&text);
            table.heard(&address, &Group::of(&address), at(0));
            if n % 4 == 0 {
                table.dialled_ok(&address, at(0));
            }
        }
        table.check();
        assert!(table.len() > BOOK_CAPACITY * 9 / 10, "{}", table.len());
        std::hint::black_box(&table);
    });
    println!("{allocated:?}, published {BOOK_MEMORY}");
    assert!(allocated.bytes_max as usize <= BOOK_MEMORY);
    let zone = address(&format!("[fe80::1%{}]:7", "z".repeat(300)));
    let mut table = Table::new([5; 16], 1);
    assert!(!table.heard(&zone, &source(1), at(0)) && !table.declared(&zone, at(0)));
    table.dialled_ok(&zone, at(0));
    table.set_anchors([zone]);
    assert!(table.is_empty() && table.anchors().is_empty());
}

#[derive(Clone, Debug)]
enum Verb {
    Heard(u32, u8),
    Declared(u32),
    Ok(u32, u8),
    Failed(u32),
    Pick,
    Feeler(bool),
    Remove(u32),
    Anchors(u32),
}

fn verbs() -> impl Strategy<Value = Vec<(u64, Verb)>> {
    // Few addresses, so that they meet; several times, so that the clock jumps.
    let n = 0_u32..3_000;
    let verb = prop_oneof![
        8 => (n.clone(), any::<u8>()).prop_map(|(n, from)| Verb::Heard(n, from)),
        1 => n.clone().prop_map(Verb::Declared),
        8 => (n.clone(), 0_u8..3).prop_map(|(n, id)| Verb::Ok(n, id)),
        4 => n.clone().prop_map(Verb::Failed),
        1 => Just(Verb::Pick),
        4 => any::<bool>().prop_map(Verb::Feeler),
        1 => n.clone().prop_map(Verb::Remove),
        1 => n.prop_map(Verb::Anchors),
    ];
    let time = prop_oneof![
        9 => 0_u64..100_000,
        1 => Just(0),
        1 => Just(u64::MAX / 4),
        1 => 4_000_000_u64..9_000_000
    ];
    proptest::collection::vec((time, verb), 0..1_500)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_all_is_in_its_place(verbs in verbs(), secret: u8) {
        let mut table = Table::new([secret; 16], 1);
        let mut failed: HashMap<Address, bool> = HashMap::new();
        for (time, verb) in verbs {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(time);
            let before: Vec<_> = table.entries().filter(|(_, tried)| *tried).map(|(e, _)| e.address.clone()).collect();
            let mut allowed = None;
            match verb {
                Verb::Heard(n, from) => {
                    table.heard(&spread(n), &source(from), now);
                }
                Verb::Declared(n) => {
                    table.declared(&spread(n), now);
                }
                Verb::Ok(n, id) => {
                    let id = PublicKey::from_bytes([id; 32]).ok();
                    table.dialled_ok(&spread(n).with_id(id), now);
                    failed.insert(spread(n), false);
                }
                Verb::Failed(n) => {
                    table.dial_failed(&spread(n), now);
                    allowed = Some(spread(n));
                }
                Verb::Pick => {
                    let picked = table.pick(now, |_| true);
                    prop_assert!(picked.is_none_or(|address| table.contains(&address)));
                }
                Verb::Feeler(answers) => if let Some(address) = table.feeler(now, |_| true) {
                    if answers {
                        table.dialled_ok(&address, now);
                    } else {
                        table.dial_failed(&address, now);
                        allowed = Some(address.with_id(None));
                    }
                },
                Verb::Remove(n) => {
                    table.remove(&spread(n));
                    allowed = Some(spread(n));
                }
                Verb::Anchors(n) => table.set_anchors((0..n % 4).map(spread)),
            }
            // Only who could not be reached, or was removed, is no longer tried.
            for address in before {
                let is_tried = table.slot_of(&address).is_some_and(|slot| slot >= TRIED_FROM);
                prop_assert!(is_tried || Some(address.with_id(None)) == allowed);
            }
        }
        table.check();
        prop_assert_eq!(table.encode(), Table::decode(&table.encode(), 1).unwrap().encode());
    }

    #[test]
    fn one_source_reaches_eight_buckets(secret: [u8; 16], seed: u32, from: u8) {
        let mut table = Table::new(secret, 1);
        for n in 0..2_000_u32 {
            table.heard(&spread(n ^ seed), &source(from), at(u64::from(n) * 1_000));
        }
        table.check();
        prop_assert!(table.buckets(false).len() <= NEW_BUCKETS_OF_SOURCE);
    }
}
