//! The replica alone: which write wins, what is refused, and what stands on a page.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::replica::{
    AHEAD_MAX, BUCKETS, ENTRIES_MAX, Entry, KEY_MAX, PAGE_BYTES, Refused, Replica, VALUE_MAX,
    Write, place,
};

/// Some time of day, in microseconds.
const NOW: u64 = 1_800_000_000_000_000;

fn entry(key: &str, time: u64, author: u64, value: Option<&str>) -> Entry {
    let value = value.map(str::to_owned);
    Entry {
        key: key.to_owned(),
        write: Write {
            time,
            author,
            value,
        },
    }
}

/// Writes of few keys, times, authors and values, so that all of them meet.
fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let fields = ("[a-e]{1,2}", 0..4_u64, 0..3_u64, option::of("[x-z]{0,2}"));
    vec(
        fields.prop_map(|(key, time, author, value)| entry(&key, time, author, value.as_deref())),
        0..60,
    )
}

/// How large a page is in a message.
fn encoded(page: &[Entry]) -> usize {
    let page = rmp_serde::to_vec_named(page);
    page.expect("it has a form in MessagePack").len()
}

fn replica(entries: &[Entry]) -> Replica {
    let mut replica = Replica::new(0);
    for entry in entries {
        replica.apply(NOW, entry.clone()).expect("all fit");
    }
    replica
}

/// All that a replica holds, by pages for somebody who has what `have` says.
fn pull(from: &Replica, have: &[u64]) -> Vec<Entry> {
    let mut all: Vec<Entry> = Vec::new();
    loop {
        let page = from.page(have, all.last().map(|entry| entry.key.as_str()));
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

fn contents(replica: &Replica) -> BTreeMap<String, Write> {
    let entries = pull(replica, &[]).into_iter();
    entries.map(|entry| (entry.key, entry.write)).collect()
}

/// A replica of the first one's entries that has then asked the second.
fn joined(one: &Replica, other: &Replica) -> Replica {
    let mut joined = replica(&pull(one, &[]));
    for entry in pull(other, &joined.digests()) {
        joined.apply(NOW, entry).expect("all fit");
    }
    joined
}

fn assert_same(one: &Replica, other: &Replica) {
    assert_eq!(contents(one), contents(other));
    assert_eq!(one.digests(), other.digests());
}

proptest! {
    #[test]
    fn the_order_of_writes_and_how_often_they_come_does_not_matter(
        (entries, again) in entries().prop_flat_map(|entries| {
            let twice = [entries.clone(), entries.clone()].concat();
            (Just(entries), Just(twice).prop_shuffle())
        }),
    ) {
        let replica_of_both = replica(&again);
        assert_same(&replica(&entries), &replica_of_both);
        // The rule, said in another way.
        let mut greatest = BTreeMap::new();
        for Entry { key, write } in entries {
            let known = greatest.entry(key).or_insert_with(|| write.clone());
            let rank = |w: &Write| (w.time, w.author, w.value.is_some(), w.value.clone());
            if rank(&write) > rank(known) {
                *known = write;
            }
        }
        prop_assert_eq!(contents(&replica_of_both), greatest);
    }

    #[test]
    fn asking_is_commutative_associative_and_idempotent(
        a in entries(),
        b in entries(),
        c in entries(),
    ) {
        let (a, b, c) = (replica(&a), replica(&b), replica(&c));
        assert_same(&joined(&a, &b), &joined(&b, &a));
        assert_same(&joined(&joined(&a, &b), &c), &joined(&a, &joined(&b, &c)));
        assert_same(&joined(&a, &a), &a);
        // Whose digests are the same has nothing to ask for.
        prop_assert!(pull(&joined(&a, &b), &joined(&b, &a).digests()).is_empty());
    }

    #[test]
    fn an_own_write_wins_over_all_that_its_author_knows(
        entries in entries(),
        ahead in 0..=AHEAD_MAX,
        key in "[a-e]{1,2}",
    ) {
        let ahead = entries.iter().map(|entry| {
            let mut entry = entry.clone();
            entry.write.time += NOW + ahead - 3;
            entry
        });
        let ahead: Vec<Entry> = ahead.filter(|e| e.write.time <= NOW + AHEAD_MAX).collect();
        let mut own = replica(&ahead);
        let write = own.write(NOW, &key, Some("mine")).expect("it fits");
        prop_assert_eq!(own.get(&key), Some("mine"));
        // Also where it comes first.
        let mut other = Replica::new(1);
        other.apply(NOW + 1, write).expect("it is taken a moment later");
        for entry in ahead {
            other.apply(NOW, entry).expect("all fit");
        }
        assert_same(&own, &other);
    }
}

#[test]
fn a_time_in_the_far_future_is_refused_and_moves_no_clock() {
    let mut replica = Replica::new(1);
    for time in [NOW + AHEAD_MAX + 1, u64::MAX - 1, u64::MAX] {
        let refused = replica.apply(NOW, entry("a", time, 9, Some("lie")));
        assert_eq!(refused, Err(Refused::Early));
    }
    let own = replica.write(NOW, "a", Some("mine")).expect("it fits");
    assert_eq!(own.write.time, NOW);
    // The furthest that is taken can be written over at once.
    let furthest = entry("a", NOW + AHEAD_MAX, u64::MAX, Some("ahead"));
    assert_eq!(replica.apply(NOW, furthest), Ok(true));
    let own = replica.write(NOW, "a", Some("mine")).expect("it fits");
    assert_eq!(own.write.time, NOW + AHEAD_MAX + 1);
    assert_eq!(replica.get("a"), Some("mine"));
}

#[test]
fn the_end_of_time_overflows_nothing() {
    let mut replica = Replica::new(1);
    let last = entry("a", u64::MAX, 9, Some("last"));
    assert_eq!(replica.apply(u64::MAX, last), Ok(true));
    let own = replica.write(u64::MAX, "b", None).expect("it fits");
    assert_eq!(own.write.time, u64::MAX);
}

#[test]
fn an_old_copy_does_not_undo_a_delete() {
    let mut writer = Replica::new(1);
    let set = writer.write(NOW, "a", Some("1")).expect("it fits");
    let deleted = writer.write(NOW, "a", None).expect("it fits");
    assert_eq!(writer.apply(NOW, set.clone()), Ok(false));
    // Nor where the delete comes first.
    let mut other = Replica::new(2);
    assert_eq!(other.apply(NOW + 1, deleted), Ok(true));
    assert_eq!(other.apply(NOW + 1, set), Ok(false));
    for replica in [&mut writer, &mut other] {
        assert_eq!(replica.get("a"), None);
        assert_eq!(replica.iter().count(), 0);
    }
    // And a later write brings it back.
    other.write(NOW, "a", Some("2")).expect("it fits");
    assert_eq!(other.iter().collect::<Vec<_>>(), [("a", "2")]);
}

#[test]
fn keys_and_values_have_a_length() {
    let mut replica = Replica::new(1);
    let (key, value) = ("k".repeat(KEY_MAX), "v".repeat(VALUE_MAX));
    let (long_key, long_value) = (format!("{key}k"), format!("{value}v"));
    for (key, value) in [(&long_key, &value), (&key, &long_value)] {
        assert_eq!(replica.write(NOW, key, Some(value)), Err(Refused::TooLong));
        let told = replica.apply(NOW, entry(key, 1, 1, Some(value)));
        assert_eq!(told, Err(Refused::TooLong));
    }
    assert_eq!(replica.digests(), [0; BUCKETS]);
    replica.write(NOW, &key, Some(&value)).expect("it fits");
    assert_eq!(replica.get(&key), Some(value.as_str()));
}

#[test]
fn a_full_store_takes_no_new_keys_and_goes_on_with_those_that_it_has() {
    let mut replica = Replica::new(1);
    for number in 0..ENTRIES_MAX {
        let told = replica.apply(NOW, entry(&format!("{number}"), 1, 1, Some("old")));
        assert_eq!(told, Ok(true));
    }
    let digests = replica.digests();
    assert_eq!(replica.write(NOW, "new", Some("1")), Err(Refused::Full));
    let told = replica.apply(NOW, entry("new", 2, 1, Some("1")));
    assert_eq!(told, Err(Refused::Full));
    assert_eq!(replica.digests(), digests);
    assert_eq!(replica.apply(NOW, entry("7", 2, 1, Some("new"))), Ok(true));
    replica.write(NOW, "8", None).expect("it is there");
    assert_eq!((replica.get("7"), replica.get("8")), (Some("new"), None));
}

#[test]
fn a_page_is_bounded_in_bytes_and_in_order() {
    // Of the smallest entries and of the largest.
    let small: Vec<Entry> = (0..3000)
        .map(|n| entry(&format!("{n:x}"), NOW, NOW, None))
        .collect();
    let large = (0..300).map(|number| {
        let key = format!("{number:0>KEY_MAX$}");
        entry(&key, u64::MAX, u64::MAX, Some(&"v".repeat(VALUE_MAX)))
    });
    for entries in [small, large.collect()] {
        let mut replica = Replica::new(1);
        for entry in &entries {
            replica.apply(u64::MAX, entry.clone()).expect("it fits");
        }
        let (mut taken, mut pages, mut after) = (Vec::new(), 0, None::<String>);
        loop {
            let page = replica.page(&[], after.as_deref());
            let Some(last) = page.last() else { break };
            after = Some(last.key.clone());
            let size = encoded(&page);
            assert!(size <= PAGE_BYTES, "{size} bytes");
            pages += 1;
            taken.extend(page);
        }
        assert!(pages > 1);
        assert_eq!(taken.len(), entries.len());
        assert!(taken.is_sorted_by(|a, b| place(&a.key) < place(&b.key)));
    }
}

#[test]
fn a_page_holds_only_what_may_differ() {
    let all: Vec<Entry> = (0..10_000)
        .map(|n| entry(&format!("{n}"), 1, 1, Some("same")))
        .collect();
    let (one, mut other) = (replica(&all), replica(&all));
    assert!(one.page(&other.digests(), None).is_empty());
    other.write(NOW, "7", Some("other")).expect("it fits");
    let page = other.page(&one.digests(), None);
    assert!(page.iter().any(|entry| entry.key == "7"));
    assert!(page.len() < 100, "{} of 10,000 entries", page.len());
    // Digests of another program's making are no more than different.
    for have in [&[][..], &[7; 3], &[7; 10_000]] {
        assert_eq!(pull(&one, have).len(), 10_000);
    }
}
