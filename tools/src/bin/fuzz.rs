//! Runs the decoders, or whole connections, on millions of generated inputs; the same ones for the
//! same seed.
//!
//! All decoders, whole connections, and one input again:
//!
//! ```text
//! cargo run --release -p coalescent-tools --bin fuzz -- --count 10000000 --seed 1
//! cargo run --release -p coalescent-tools --bin fuzz -- --count 100000 connection
//! cargo run --release -p coalescent-tools --bin fuzz -- --seed 1 --input 4711 json
//! ```
//!
//! An input that breaks a promise is printed, and ends the run.

#[path = "../../../tests/it/generated/mutate.rs"]
mod mutate;
#[path = "../../../tests/it/generated/targets.rs"]
mod targets;

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use mutate::Generator;
use targets::{TARGETS, Target};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let (mut count, mut seed, mut input) = (10_000_000_u64, 1_u64, None);
    let mut chosen = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or("each option needs a value");
        match argument.as_str() {
            "--count" => count = value()?.parse()?,
            "--seed" => seed = value()?.parse()?,
            "--input" => input = Some(value()?.parse::<u64>()?),
            name => {
                let target = TARGETS.iter().find(|target| target.name == name);
                chosen.push(target.ok_or_else(|| {
                    let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
                    format!("no target {name}: there are {}", names.join(", "))
                })?);
            }
        }
    }
    if chosen.is_empty() {
        chosen.extend(TARGETS.iter().filter(|target| target.quick));
    }
    for target in chosen {
        if !run(target, count, seed, input) {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs one target; on input number `only` alone, if it is given.
fn run(target: &Target, count: u64, seed: u64, only: Option<u64>) -> bool {
    let mut generator = Generator::new(seed, (target.corpus)());
    let start = Instant::now();
    let mut bytes = 0;
    for number in 0..only.map_or(count, |only| only.saturating_add(1)) {
        let input = generator.next();
        if only.is_some_and(|only| only != number) {
            continue;
        }
        bytes += input.len();
        if catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_err() {
            println!(
                "{}: seed {seed}, input {number}: {}",
                target.name,
                input.escape_ascii()
            );
            return false;
        }
    }
    let took = start.elapsed().as_secs_f64();
    println!(
        "{:10}  seed {seed}, {count} inputs, {bytes} bytes, {took:.1} s, no failure",
        target.name
    );
    true
}
