use std::collections::HashSet;
use std::time::Duration;

use coalescent_core::identity::PublicKey;
use coalescent_core::{BAN_REASON_MAX, Ban, BanTarget};
use proptest::prelude::*;

use super::super::group::Group;
use super::super::table::tests::{address, at, spread};
use super::*;

fn table() -> Table {
    let mut table = Table::new([9; 16], 1);
    for n in 0..40 {
        let source = Group::of(&spread(n / 4));
        let id = PublicKey::from_bytes([n as u8; 32])
            .ok()
            .filter(|_| n % 2 == 0);
        table.heard(&spread(n).with_id(id), &source, at(n.into()));
        if n % 3 == 0 {
            table.dialled_ok(&spread(n).with_id(id), at(100));
        }
        if n % 5 == 0 {
            table.dial_failed(&spread(n), at(200));
        }
    }
    table.heard(
        &address("seed.example.org:1"),
        &Group::of(&address("[2001:db8::1]:1")),
        at(0),
    );
    table.declared(&address("[fe80::1%eth0]:1"), at(0));
    table.set_bans([
        ban("198.51.100.7", 600, "junk, and more of it"),
        ban("2001:db8::7", 700, ""),
        ban(&"0f".repeat(32), 800, "a\nb"),
    ]);
    table.set_anchors([
        spread(1),
        spread(2).with_id(PublicKey::from_bytes([7; 32]).ok()),
        spread(3),
    ]);
    table
}

fn ban(target: &str, seconds: u64, reason: &str) -> SavedBan {
    let target: BanTarget = target.parse().unwrap();
    let left = Duration::from_secs(seconds);
    SavedBan::new(&Ban::new(target, left, reason).with_times(3), at(0))
}

/// Text with a correct sum.
fn summed(secret: u8, lines: &str) -> Vec<u8> {
    let secret = [secret; 16];
    let text = format!("coalescent-book 1\nsecret {}\n{lines}", hex(&secret));
    let sum = sum(&secret, text.as_bytes());
    format!("{text}sum {sum}\n").into_bytes()
}

fn refusal(bytes: &[u8]) -> String {
    let error = Table::decode(bytes, 1).unwrap_err();
    assert!(error.is_damaged() && !error.is_io());
    error.to_string()
}

#[test]
fn what_is_encoded_is_decoded() {
    let before = table();
    let bytes = before.encode();
    let after = Table::decode(&bytes, 1).unwrap();
    after.check();
    assert_eq!(after.encode(), bytes);
    assert_eq!(
        (after.len(), after.tried_len()),
        (before.len(), before.tried_len())
    );
    assert_eq!(after.anchors(), before.anchors());
    let tellable = |table: &Table| table.tellable(at(300)).cloned().collect::<HashSet<_>>();
    assert_eq!(tellable(&after), tellable(&before));
}

#[test]
fn bans_are_as_they_were_and_those_of_strangers_are_bounded() {
    let table = Table::decode(&table().encode(), 1).unwrap();
    let bans: Vec<_> = table.bans().iter().map(|ban| ban.ban(at(0))).collect();
    let reasons: Vec<_> = bans.iter().map(Ban::reason).collect();
    assert_eq!(reasons, ["junk, and more of it", "", "a\\nb"]);
    assert_eq!(bans[0].left(), Duration::from_secs(600));
    assert_eq!(bans[0].times(), 3);
    let later = table.bans()[0].ban(at(599));
    assert_eq!(later.left(), Duration::from_secs(1));
    assert!(table.bans()[0].ban(at(601)).left().is_zero());

    let mut lines = String::new();
    for n in 0..2 * BANS_IN_BOOK {
        let reason = "x".repeat(300);
        lines += &format!(
            "ban 198.51.{}.{} {} {} {reason}\n",
            n / 256,
            n % 256,
            u64::MAX,
            u32::MAX
        );
    }
    let forged = Table::decode(&summed(1, &lines), 1).unwrap();
    assert_eq!(forged.bans().len(), BANS_IN_BOOK);
    let ban = forged.bans()[0].ban(at(0));
    assert!(ban.reason().len() <= BAN_REASON_MAX);
    assert!(forged.encode().len() < BANS_IN_BOOK * 300);
}

#[test]
fn bans_are_news_if_there_are_others() {
    let mut table = table();
    let before = table.changes();
    let same: Vec<_> = table.bans().to_vec();
    table.set_bans(same);
    assert_eq!(table.changes(), before);
    table.set_bans([ban("198.51.100.7", 600, "junk")]);
    assert_ne!(table.changes(), before);
}

#[test]
fn an_empty_table_is_three_lines() {
    let text = String::from_utf8(Table::new([0xab; 16], 1).encode()).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "coalescent-book 1");
    assert_eq!(lines[1], format!("secret {}", "ab".repeat(16)));
    assert!(lines[2].starts_with("sum "));
    assert_eq!(lines.len(), 3);
}

#[test]
fn the_largest_book_is_smaller_than_what_is_read() {
    let longest_entry = "tried ".len()
        + 64
        + 1
        + super::super::table::HOST_MAX
        + 2
        + 6
        + 1
        + super::super::group::GROUP_NAME_MAX
        + 4 * 21
        + 11
        + 1;
    let longest_ban = "ban ".len() + 64 + 1 + 20 + 1 + 10 + 1 + BAN_REASON_MAX + 1;
    let bans = BANS_IN_BOOK * longest_ban;
    assert!(BOOK_CAPACITY * longest_entry + bans + 3 * 400 < BOOK_FILE_MAX);
}

#[test]
fn each_cut_and_each_flipped_bit_is_found() {
    let bytes = table().encode();
    for end in 0..bytes.len() {
        refusal(&bytes[..end]);
    }
    for at in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        refusal(&bytes);
    }
}

#[test]
fn what_is_something_else_is_refused_with_a_reason() {
    for (bytes, reason) in [
        (&b"\x7fELF\xff"[..], "it is not text"),
        (b"", "it does not begin as one"),
        (b"[server]\nport = 7\n", "it does not begin as one"),
        (
            b"coalescent-book 2\n",
            "it has another version, which this program does not know",
        ),
        (
            b"coalescent-book 1\nsecret 7\n",
            "it has no secret in its second line",
        ),
        (&summed(1, "new x\n"), "it has an entry that cannot be read"),
        (
            &summed(1, "anchor x\n"),
            "it has an anchor that is no address",
        ),
        (
            &vec![b'x'; BOOK_FILE_MAX + 1],
            "it is larger than any address book",
        ),
    ] {
        assert_eq!(
            refusal(bytes),
            format!("address book: this is no address book: {reason}")
        );
    }
    let line = "new 198.51.100.7:1 198.51.0.0/16 1 0 0 0 0\n";
    assert!(refusal(&summed(1, &line.repeat(BOOK_CAPACITY + 1))).contains("more entries"));
}

#[test]
fn a_forged_file_cannot_choose_places() {
    // Each claims to be tried; all those of one group share four buckets all the same.
    let mut lines = String::new();
    for n in 0..1_000 {
        lines += &format!(
            "tried 198.51.100.7:{} 203.0.113.0/16 5 5 5 0 0 later words\n",
            n + 1
        );
    }
    lines += "ban 198.51.100.7 until 9\nban nobody 9 9\nlater words\n";
    let table = Table::decode(&summed(1, &lines), 1).unwrap();
    table.check();
    assert!(table.tried_len() <= 64, "{}", table.tried_len());

    let twice = "tried 198.51.100.7:1 203.0.113.0/16 5 5 5 0 0\nnew 198.51.100.7:1 203.0.113.0/16 5 5 5 0 0\n";
    assert_eq!(Table::decode(&summed(1, twice), 1).unwrap().len(), 1);
    let never_reached = "tried 198.51.100.7:1 203.0.113.0/16 5 5 0 0 0\n";
    assert_eq!(
        Table::decode(&summed(1, never_reached), 1)
            .unwrap()
            .tried_len(),
        0
    );
    let extreme = format!(
        "new 198.51.100.7:1 x {0} {0} {0} {0} {1}\n",
        u64::MAX,
        u32::MAX
    );
    let mut table = Table::decode(&summed(1, &extreme), 1).unwrap();
    assert!(table.pick(at(0), |_| true).is_some());
    table.dial_failed(&address("198.51.100.7:1"), at(0));
    table.check();
}

proptest! {
    #[test]
    fn bytes_are_refused_or_make_a_sound_table(
        mut bytes in Just(table().encode()),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in proptest::option::of(any::<prop::sample::Index>()),
        with_sum: bool,
    ) {
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if with_sum && let Some(end) = bytes.windows(5).position(|part| part == b"\nsum ") {
            bytes.truncate(end + 1);
            bytes.extend(format!("sum {}\n", sum(&[9; 16], &bytes)).bytes());
        }
        if let Ok(mut table) = Table::decode(&bytes, 1) {
            table.check();
            table.pick(at(0), |_| true);
            table.feeler(at(0), |_| true);
            let again = Table::decode(&table.encode(), 1).unwrap();
            prop_assert_eq!(again.encode(), table.encode());
        }
    }

    #[test]
    fn lines_of_anything_do_no_harm(lines in "((new|tried|anchor|ban|sum|secret)? ?([0-9a-z.:@/ ]{0,40})\n){0,20}") {
        if let Ok(table) = Table::decode(&summed(1, &lines), 1) {
            table.check();
        }
    }
}
