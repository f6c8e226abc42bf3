//! Decoders and whole connections on generated inputs: what the tool `fuzz` does at length.
//!
//! `COALESCENT_SIM_SEED` makes other inputs, `COALESCENT_INPUTS` more of them.

mod mutate;
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use mutate::Generator;
use targets::TARGETS;

/// Inputs for each decoder.
const INPUTS: u64 = 100_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().expect("a number"))
}

fn run(name: &str) {
    let target = TARGETS
        .iter()
        .find(|target| target.name == name)
        .expect("a target");
    let seed = number("COALESCENT_SIM_SEED").unwrap_or(1);
    let inputs = number("COALESCENT_INPUTS").unwrap_or(INPUTS);
    let inputs = if target.quick { inputs } else { inputs / 50 };
    for input in (target.corpus)() {
        (target.run)(&input);
    }
    let mut generator = Generator::new(seed, (target.corpus)());
    for number in 0..inputs {
        let input = generator.next();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(input))) {
            println!(
                "{name}, seed {seed}, input {number}: {}",
                input.escape_ascii()
            );
            resume_unwind(panic);
        }
    }
}

#[test]
fn native_frames() {
    run("native");
}

#[test]
fn lines() {
    run("lines");
}

#[test]
fn introductions() {
    run("hello");
}

#[test]
fn messagepack_messages() {
    run("msgpack");
}

#[test]
fn json_messages() {
    run("json");
}

#[test]
fn bodies() {
    run("body");
}

#[test]
fn addresses_and_other_texts() {
    run("text");
}

#[test]
fn peer_exchange() {
    run("peers");
}

#[test]
fn overlay() {
    run("overlay");
}

#[test]
fn streams() {
    run("streams");
}

#[test]
fn address_books() {
    run("book");
}

#[test]
fn whole_connections() {
    run("connection");
}
