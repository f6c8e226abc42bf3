use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::smart_relay::seen::source::Sources;

const TTL: u64 = 5_000;

/// A set with room for `lines` lines, and sources of lines.
fn contents(lines: usize) -> (Contents, Vec<Source>) {
    let mut sources = Sources::new(120_000);
    // So many that the last ones have no bit.
    let sources = (0..70).map(|_| sources.open(0)).collect();
    (Contents::new(lines * ENTRY_COST, TTL, 120_000, 64), sources)
}

/// Returns whether a frame is handled and relayed.
fn goes_on(novelty: Novelty) -> bool {
    matches!(novelty, Novelty::New | Novelty::Last)
}

/// Returns a substitute for the hash of a line.
fn line(number: u64) -> u128 {
    u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64 | u128::from(number)
}

#[test]
fn a_line_said_again_is_new_and_passed_on_by_others_is_a_copy() {
    let (mut contents, sources) = contents(4000);
    for round in 0..20 {
        let clock = 1_000 * round;
        for (at, source) in sources.iter().enumerate() {
            let expected = if at == 0 { Novelty::New } else { Novelty::Copy };
            let novelty = contents.insert(*source, line(1), clock + at as u64);
            assert_eq!(novelty, expected, "{at} in round {round}");
        }
        contents.check();
    }
}

#[test]
fn the_second_time_may_come_the_other_way_first() {
    let (mut contents, sources) = contents(1000);
    let mut say = |source: usize| contents.insert(sources[source], line(1), 0);
    assert_eq!(say(1), Novelty::New);
    assert_eq!(say(1), Novelty::New);
    assert_eq!(say(2), Novelty::Copy);
    assert_eq!(say(2), Novelty::Copy);
    assert_eq!(say(2), Novelty::New);
    assert_eq!(say(1), Novelty::Copy);
    assert_eq!(say(3), Novelty::Copy);
    assert_eq!(say(1), Novelty::New);
}

#[test]
fn what_this_node_says_counts_too() {
    let (mut contents, sources) = contents(1000);
    for _ in 0..100 {
        contents.insert(Source::NODE, line(1), 0);
    }
    for _ in 0..100 {
        assert_eq!(contents.insert(sources[0], line(1), 0), Novelty::Copy);
    }
    assert_eq!(contents.insert(sources[1], line(1), 5_000), Novelty::New);
    contents.check();
}

#[test]
fn a_line_is_another_five_seconds_after_it_was_said_last() {
    let (mut contents, sources) = contents(1000);
    assert_eq!(contents.insert(sources[0], line(1), 0), Novelty::New);
    assert_eq!(contents.insert(sources[1], line(1), 4_999), Novelty::Copy);
    assert_eq!(contents.insert(sources[1], line(1), 5_000), Novelty::New);
    assert_eq!(contents.insert(sources[0], line(1), 5_001), Novelty::Copy);
    contents.check();
}

#[test]
fn while_more_is_said_than_a_thin_link_carries_a_late_line_is_a_copy() {
    let (mut contents, sources) = contents(1000);
    let size = 50_000;
    for number in 0..20 {
        assert_eq!(contents.insert(sources[0], line(number), 0), Novelty::New);
        contents.carry(size, 0);
    }
    for number in 0..20 {
        // The copies arrive at 16 KiB/s, for a minute.
        let clock = (number + 1) * 50_000_000 / (16 * 1024);
        let novelty = contents.insert(sources[1], line(number), clock);
        assert_eq!(novelty, Novelty::Copy, "{number}");
    }
    let later = contents.insert(sources[1], line(0), 70_000);
    assert_eq!(later, Novelty::New);
    contents.check();
}

#[test]
fn who_is_first_with_its_lines_needs_no_bit_of_its_own() {
    let (mut contents, sources) = contents(1000);
    let without = *sources.last().expect("some");
    assert_eq!(without.bit, None);
    for number in 0..1000 {
        let novelty = contents.insert(without, line(number), 0);
        assert!(goes_on(novelty), "{number}");
    }
    assert_eq!(contents.insert(sources[0], line(999), 0), Novelty::Copy);
    assert!(goes_on(contents.insert(without, line(999), 0)), "again");
    assert_eq!(contents.insert(sources[0], line(999), 0), Novelty::Copy);
    contents.check();
}

#[test]
fn a_circle_that_knows_no_copies_makes_no_storm() {
    for source in [0, 69] {
        let (mut contents, sources) = contents(1000);
        let say = |contents: &mut Contents, clock| {
            contents.insert(sources[source], line(1), clock) == Novelty::New
        };
        let new = (0..10_000).filter(|_| say(&mut contents, 0)).count();
        assert_eq!(new, 64);
        assert!(!say(&mut contents, 4_900));
        assert!(say(&mut contents, 5_000));
        contents.check();
    }
}

#[test]
fn what_is_full_refuses_where_copies_come_and_forgets_where_none_do() {
    let (mut contents, sources) = contents(300);
    for number in 0..10_000 {
        assert_eq!(contents.insert(sources[0], line(number), 0), Novelty::New);
    }
    assert!(contents.forgotten_young() > 9_000);
    contents.check();
    // A copy arrives, so from here on the set assumes a mesh.
    assert_eq!(contents.insert(sources[1], line(9_999), 0), Novelty::Copy);
    assert_eq!(
        contents.insert(sources[0], line(10_000), 0),
        Novelty::Refused
    );
    // Other sources have room, and the flooding one regains room as entries age.
    assert_eq!(contents.insert(sources[2], line(10_000), 0), Novelty::New);
    assert_eq!(
        contents.insert(sources[0], line(10_001), YOUNG),
        Novelty::New
    );
    contents.check();
}

/// A source that sends each line twice does not keep others from repeating theirs.
#[test]
fn counts_are_shared_as_the_room_is() {
    let (mut contents, sources) = contents(100_000);
    for number in 0..50_000 {
        contents.insert(sources[0], line(number), 0);
        contents.insert(sources[0], line(number), 0);
    }
    for _ in 0..5 {
        assert!(goes_on(contents.insert(sources[1], line(60_000), 0)));
    }
    assert!(goes_on(contents.insert(sources[69], line(70_000), 0)));
    contents.check();
}

#[test]
fn own_words_that_had_to_be_forgotten_are_not_taken_for_new() {
    let (mut contents, sources) = contents(300);
    assert_eq!(contents.insert(sources[0], line(u64::MAX), 0), Novelty::New);
    assert_eq!(
        contents.insert(sources[1], line(u64::MAX), 0),
        Novelty::Copy
    );
    for number in 0..10_000 {
        contents.insert(Source::NODE, line(number), 0);
    }
    let novelties: Vec<_> = (0..10_000)
        .map(|number| contents.insert(sources[0], line(number), 1))
        .collect();
    assert!(!novelties.iter().any(|novelty| goes_on(*novelty)));
    assert!(novelties.contains(&Novelty::Copy));
    assert_eq!(
        contents.insert(sources[0], line(20_000), YOUNG),
        Novelty::New
    );
}

/// In a flooded mesh, copies arrive many seconds late, and all at once.
#[test]
fn in_a_flood_lines_are_remembered_for_two_minutes() {
    let (mut contents, sources) = contents(1_000_000);
    let lines = BUSY as u64;
    for number in 0..lines {
        assert_eq!(
            contents.insert(sources[0], line(number), number),
            Novelty::New
        );
    }
    for number in 0..lines {
        let clock = 60_000 + number;
        assert_eq!(
            contents.insert(sources[1], line(number), clock),
            Novelty::Copy
        );
        assert_eq!(
            contents.insert(sources[69], line(number), clock),
            Novelty::Copy
        );
    }
    // A line repeated throughout is accepted at most 64 times in 5 s.
    for second in 60..200 {
        for source in [0, 1, 69] {
            let novelty = contents.insert(sources[source], line(1), second * 1_000);
            assert_eq!(novelty == Novelty::New, source == 0, "{source} at {second}");
        }
    }
    contents.check();
}

#[test]
fn lines_are_remembered_however_late_their_copies_come() {
    let (mut contents, sources) = contents(1_000_000);
    let (mut lag, mut last) = (0, u64::MAX);
    for number in 0..100_000_u64 {
        // A thousand lines per second, whose copies lag behind by a tenth of the time.
        lag = number / 10;
        assert_eq!(
            contents.insert(sources[0], line(number), number),
            Novelty::New
        );
        let copy = number - lag;
        if copy != last {
            let novelty = contents.insert(sources[1], line(copy), number);
            assert_eq!(novelty, Novelty::Copy, "{copy} at {number}");
        }
        last = copy;
    }
    assert!(lag > TTL);
    contents.check();
}

#[test]
fn weeks_of_uptime_do_not_confuse_the_ages() {
    let (mut contents, sources) = contents(1000);
    let wrap = 1 << 32;
    let mut say = |source: usize, number, clock| {
        let novelty = contents.insert(sources[source], line(number), clock);
        contents.check();
        novelty
    };
    assert_eq!(say(0, 1, 0), Novelty::New);
    assert_eq!(say(0, 2, wrap - 2_000), Novelty::New);
    assert_eq!(say(1, 2, wrap + 2_000), Novelty::Copy);
    assert_eq!(say(1, 2, wrap + 3_000), Novelty::New);
    // Silent for exactly one wrap of the clock.
    assert_eq!(say(0, 2, wrap + wrap + 3_001), Novelty::New);
    assert_eq!(say(0, 1, wrap + wrap + 3_001), Novelty::New);
}

/// A source that sends each line twice uses its own share of the counts only.
#[test]
fn one_who_repeats_all_it_says_keeps_nobody_else_from_repeating_a_line() {
    let (mut contents, sources) = contents(20_000);
    for number in 0..10_000 {
        contents.insert(sources[0], line(number), 0);
        contents.insert(sources[0], line(number), 0);
    }
    contents.check();
    for _ in 0..10 {
        assert_eq!(contents.insert(sources[1], line(1 << 32), 0), Novelty::New);
        // A source without a bit needs a count for each line.
        assert_eq!(contents.insert(sources[69], line(1 << 33), 0), Novelty::New);
    }
}

#[test]
fn a_line_that_is_forgotten_is_new_when_the_next_copy_comes_and_then_no_more() {
    let (mut contents, sources) = contents(1000);
    assert_eq!(contents.insert(sources[0], line(1), 0), Novelty::New);
    assert_eq!(contents.insert(sources[1], line(1), 1), Novelty::Copy);
    contents.forget(line(1), 10);
    contents.forget(line(2), 10);
    assert_eq!(contents.insert(sources[2], line(1), 20), Novelty::New);
    assert_eq!(contents.insert(sources[3], line(1), 20), Novelty::Copy);
    // Those that sent the copies before say it once more: it is another line.
    assert_eq!(contents.insert(sources[1], line(1), 30), Novelty::New);
    assert_eq!(contents.insert(sources[0], line(1), 30), Novelty::Copy);
    contents.forget(line(1), TTL);
    assert_eq!(contents.insert(sources[3], line(1), 40), Novelty::Copy);
    contents.check();
}

proptest! {
    /// With sufficient room, it counts as the contract of the wire requires.
    #[test]
    fn behaves_like_the_model(
        steps in prop::collection::vec((0..70_usize, 0..5_u64, 0..100_u64, 0..4_u8), 1..500),
    ) {
        let (mut contents, sources) = contents(100_000);
        // When a line was last said as new, how often it is known, and how often each has said it.
        let mut lines: HashMap<u64, (u64, u32, HashMap<usize, u32>)> = HashMap::new();
        let mut clock = 0;
        for (source, number, step, forget) in steps {
            clock += step * step / 3;
            let (said, most, counts) = lines.entry(number).or_default();
            if clock - *said >= TTL {
                counts.clear();
                *most = 0;
            }
            let count = counts.entry(source).or_default();
            let novelty = contents.insert(sources[source], line(number), clock);
            if *count < 64 {
                *count += 1;
            }
            if *count > *most {
                *said = clock;
                *most = *count;
                prop_assert_eq!(novelty, Novelty::New);
                if forget == 0 {
                    contents.forget(line(number), 0);
                    *most -= 1;
                }
            } else {
                prop_assert_eq!(novelty, Novelty::Copy);
            }
            contents.check();
        }
    }
}
