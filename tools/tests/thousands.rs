//! The scenarios at a size that every run of the tests can bear. What is asserted follows from
//! simulated time: what was missed, who has how many neighbours, how many copies arrive. What a
//! busy machine changes, CPU time and memory, is printed alone.

use std::time::Duration;

use thousands::{Options, Relay, Row, Scenario};

const NODES: usize = 200;

/// The most neighbours that a node may have.
const DEGREE: usize = 8;

fn run(name: &str, relay: Relay) -> Row {
    run_some(name, relay, NODES, Options::default().seed)
}

fn run_some(name: &str, relay: Relay, nodes: usize, seed: u64) -> Row {
    let options = Options {
        seed,
        run: Duration::from_secs(60),
        burst: 100,
        stream: 50,
        ..Options::default()
    };
    let scenario = Scenario::named(name).expect("a scenario");
    let row = scenario.run(relay, nodes, &options);
    println!("{row}");
    row
}

/// Runs a scenario on the overlay, after which nothing may be missed any more.
fn nothing_is_missed(name: &str, running: usize) {
    let row = run(name, Relay::Overlay);
    let last = row.phases.last().expect("a phase");
    assert_eq!(row.alive, running);
    assert_eq!(last.missed, 0, "{row}");
    assert_eq!(last.drops, 0, "{row}");
    assert_eq!(row.heard_twice, 0, "{row}");
    assert_eq!(row.islands, 1, "{row}");
    assert!(row.degree.2 <= DEGREE, "{row}");
    // Each node passes a message on to all neighbours but the one that it has it from.
    let copies = last.copies.expect("copies are counted");
    assert!(copies <= DEGREE as f64 - 1.0, "{row}");
}

#[test]
fn nodes_that_start_in_a_row_hear_each_other() {
    nothing_is_missed("row", NODES);
}

#[test]
fn nodes_that_start_at_once_through_one_seed_hear_each_other() {
    nothing_is_missed("storm-1", NODES);
}

#[test]
fn the_fifth_that_is_left_hears_each_other() {
    nothing_is_missed("kill-80", NODES / 5);
}

#[test]
fn a_burst_loses_nothing() {
    nothing_is_missed("burst", NODES);
}

#[test]
fn a_tree_delivers_hardly_any_copies() {
    let row = run("one-sender", Relay::Tree);
    let then = row.phase("then").expect("a warm tree");
    assert_eq!((then.missed, then.drops), (0, 0), "{row}");
    assert!(then.copies.is_some_and(|copies| copies <= 1.1), "{row}");
}

#[test]
fn a_seed_fixes_what_happens() {
    for (name, relay) in [
        ("kill-80", Relay::Fixed),
        ("storm-3", Relay::Overlay),
        ("kill-80", Relay::Overlay),
        ("kill-80", Relay::Tree),
        ("one-sender", Relay::Tree),
    ] {
        let row = |seed| run_some(name, relay, 40, seed).of_the_seed();
        let first = row(1);
        assert_eq!(first, row(1));
        let other = Row { seed: 1, ..row(2) };
        assert_ne!(first, other, "another seed does another thing");
    }
}

/// The scenario tells who is left out: neighbours that nobody replaces.
#[test]
fn fixed_neighbours_do_not_outlive_four_of_five() {
    let row = run("kill-80", Relay::Fixed);
    assert!(row.islands > 1, "{row}");
    assert!(
        row.phases.last().is_some_and(|last| last.missed > 0),
        "{row}"
    );
}
