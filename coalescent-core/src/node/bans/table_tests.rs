use proptest::prelude::*;

use super::*;
use crate::transport::identity::PublicKey;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn table() -> Table {
    Table::new(Lengths {
        first: 10 * MINUTE,
        max: DAY,
    })
}

fn ip(text: &str) -> BanTarget {
    text.parse().unwrap()
}

/// An address of the network `a.b.0.0/16`.
fn of_network(network: u16, number: u16) -> BanTarget {
    let [a, b] = network.to_be_bytes();
    let [c, d] = number.to_be_bytes();
    BanTarget::Ip([a, b, c, d].into())
}

fn punish(table: &mut Table, target: BanTarget, now: Instant) -> Duration {
    table.punish(target, network(target), "junk", now)
}

#[test]
fn each_ban_is_twice_as_long_as_the_last_up_to_a_day() {
    let (mut table, mut now) = (table(), Instant::now());
    let who = ip("198.51.100.7");
    for minutes in [10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440] {
        let length = punish(&mut table, who, now);
        assert_eq!(length, minutes * MINUTE);
        assert_eq!(table.left(who, now), Some(length));
        now += length - Duration::from_millis(1);
        assert!(table.left(who, now).is_some());
        now += Duration::from_millis(1);
        assert_eq!(table.left(who, now), None);
        assert_eq!(table.left(ip("198.51.100.8"), now), None);
    }
}

#[test]
fn earlier_bans_are_forgotten_one_by_one() {
    let (mut table, mut now) = (table(), Instant::now());
    let who = ip("198.51.100.7");
    for _ in 0..4 {
        now += punish(&mut table, who, now);
    }
    now += 2 * FORGIVEN_AFTER;
    assert_eq!(punish(&mut table, who, now), 40 * MINUTE, "two of four");
    now += 40 * MINUTE + 10 * FORGIVEN_AFTER;
    assert_eq!(punish(&mut table, who, now), 10 * MINUTE, "all");
}

#[test]
fn a_ban_under_way_begins_anew_and_does_not_double() {
    let (mut table, now) = (table(), Instant::now());
    let who = ip("198.51.100.7");
    assert_eq!(punish(&mut table, who, now), 10 * MINUTE);
    let later = now + 4 * MINUTE;
    assert_eq!(punish(&mut table, who, later), 10 * MINUTE);
    assert_eq!(punish(&mut table, who, later + 10 * MINUTE), 20 * MINUTE);
}

#[test]
fn the_application_says_how_long_within_the_longest() {
    let (mut table, now) = (table(), Instant::now());
    let who = ip("2001:db8::7");
    let ban = table.ban(Ban::new(who, MINUTE, "spam"), now);
    assert_eq!((ban.left(), ban.reason()), (MINUTE, "spam"));
    let ban = table.ban(Ban::new(who, Duration::MAX, "spam"), now);
    assert_eq!(ban.left(), DAY);
    assert_eq!(table.list(now), [ban]);
    // Its faults do not make that shorter.
    assert_eq!(punish(&mut table, who, now), DAY);
    assert!(table.unban(who, now));
    assert!(!table.unban(who, now));
    assert!(table.list(now).is_empty() && table.is_empty());
    assert_eq!(
        punish(&mut table, who, now),
        10 * MINUTE,
        "all is forgotten"
    );
    assert_eq!(
        table.ban(Ban::new(who, Duration::ZERO, ""), now).left(),
        Duration::ZERO
    );
    assert_eq!(table.left(who, now), None);
}

#[test]
fn what_a_file_says_is_clamped() {
    let (mut table, now) = (table(), Instant::now());
    let who = ip("198.51.100.7");
    let ban = Ban::new(who, Duration::MAX, "x".repeat(10_000)).with_times(u32::MAX);
    table.restore(ban, now);
    assert_eq!(table.left(who, now), Some(DAY));
    // A shorter one changes nothing.
    table.restore(Ban::new(who, MINUTE, "y"), now);
    assert_eq!(table.left(who, now), Some(DAY));
    assert_eq!(table.left(who, now + DAY), None);
    assert_eq!(punish(&mut table, who, now + DAY), DAY);
}

#[test]
fn who_has_many_addresses_or_keys_evicts_his_own() {
    let (mut table, now) = (table(), Instant::now());
    let by_hand = ip("203.0.113.1");
    table.ban(Ban::new(by_hand, 60 * MINUTE, "spam"), now);
    let honest = of_network(0x0505, 1);
    punish(&mut table, honest, now);
    for number in 0..2000 {
        punish(&mut table, of_network(0x0606, number), now + MINUTE);
        let mut key = [6; 32];
        key[..2].copy_from_slice(&number.to_be_bytes());
        let network = network(of_network(0x0606, 0));
        table.punish(
            BanTarget::Key(PublicKey::from_bytes(key).unwrap()),
            network,
            "junk",
            now + MINUTE,
        );
    }
    assert_eq!(table.records.len(), BANS_OF_NETWORK + 2);
    assert!(table.left(honest, now).is_some());
    // Many networks take places of the one that has the most.
    for network in 0..2000 {
        punish(&mut table, of_network(0x0700 + network, 1), now);
        assert!(table.records.len() <= BANS_MAX);
    }
    assert!(table.left(by_hand, now).is_some());
}

#[test]
fn what_has_ended_goes_first() {
    let (mut table, now) = (table(), Instant::now());
    for network in 0..BANS_MAX as u16 {
        punish(&mut table, of_network(0x0600 + network, 1), now);
    }
    let later = now + 5 * MINUTE;
    // This one is banned anew, and is the only one left then.
    punish(&mut table, of_network(0x0600, 1), later);
    punish(&mut table, of_network(0x2000, 1), now + 12 * MINUTE);
    assert_eq!(table.records.len(), BANS_MAX);
    assert!(
        table
            .left(of_network(0x0600, 1), now + 12 * MINUTE)
            .is_some()
    );
    assert!(
        table
            .left(of_network(0x2000, 1), now + 12 * MINUTE)
            .is_some()
    );
}

#[derive(Clone, Debug)]
enum Step {
    Punish(u16, u16),
    Ban(u16, u16, u64),
    Restore(u16, u16, u64, u32),
    Unban(u16, u16),
    /// The clock moves by so many seconds, perhaps back.
    Time(i32),
}

fn step() -> impl Strategy<Value = Step> {
    let network = 0x0600..0x0604_u16;
    let target = (network, 0..200_u16);
    prop_oneof![
        8 => target.clone().prop_map(|(n, i)| Step::Punish(n, i)),
        1 => (target.clone(), any::<u64>()).prop_map(|((n, i), s)| Step::Ban(n, i, s)),
        1 => (target.clone(), any::<u64>(), any::<u32>())
            .prop_map(|((n, i), s, times)| Step::Restore(n, i, s, times)),
        1 => target.prop_map(|(n, i)| Step::Unban(n, i)),
        2 => (-10_000..100_000_i32).prop_map(Step::Time),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_happens_bans_are_bounded_in_number_and_time(
        steps in proptest::collection::vec(step(), 1..800),
        first in 0..100_000_u64,
        max in 0..100_000_u64,
    ) {
        let (first, max) = (Duration::from_secs(first), Duration::from_secs(max));
        let mut table = Table::new(Lengths { first, max });
        let start = Instant::now() + 10 * DAY;
        let mut now = start;
        for step in steps {
            let left_before = match &step {
                Step::Punish(network, number) => table.left(of_network(*network, *number), now),
                _ => None,
            };
            match step {
                Step::Punish(network, number) => {
                    let target = of_network(network, number);
                    let length = punish(&mut table, target, now);
                    prop_assert_eq!(table.left(target, now).unwrap_or_default(), length);
                    prop_assert!(length >= first.min(max));
                    prop_assert!(length <= max.max(left_before.unwrap_or_default()));
                }
                Step::Ban(network, number, seconds) => {
                    let ban = Ban::new(of_network(network, number), Duration::from_secs(seconds), "");
                    let ban = table.ban(ban, now);
                    prop_assert!(ban.left() <= max);
                }
                Step::Restore(network, number, seconds, times) => {
                    let ban = Ban::new(of_network(network, number), Duration::from_secs(seconds), "");
                    table.restore(ban.with_times(times), now);
                }
                Step::Unban(network, number) => {
                    table.unban(of_network(network, number), now);
                    prop_assert_eq!(table.left(of_network(network, number), now), None);
                }
                Step::Time(seconds) => {
                    let by = Duration::from_secs(seconds.unsigned_abs().into());
                    now = if seconds < 0 { (now - by).max(start) } else { now + by };
                }
            }
            prop_assert!(table.records.len() <= BANS_MAX);
            let mut networks = HashMap::new();
            for record in table.records.values() {
                *networks.entry(record.network).or_insert(0) += 1;
            }
            prop_assert!(networks.values().all(|count| *count <= BANS_OF_NETWORK));
            // Nobody is banned longer than that, however the clock has jumped.
            let end = now.max(start + 10_000 * DAY);
            prop_assert!(table.list(end).is_empty());
        }
    }
}
