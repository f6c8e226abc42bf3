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

#[path = "../../../examples/support/command_line.rs"]
mod command_line;
#[path = "../../../tests/it/generated/mutate.rs"]
mod mutate;
#[path = "../../../tests/it/generated/targets.rs"]
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use mutate::Generator;
use targets::{TARGETS, Target};

/// Runs the decoders, or whole connections, on generated inputs; the same ones for the same seed.
#[derive(Parser)]
struct Args {
    /// How many inputs each target gets
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    count: u64,
    /// What the inputs follow from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Run the input of this number alone
    #[arg(long, value_name = "N")]
    input: Option<u64>,
    /// What to run [default: all decoders]
    #[arg(value_name = "TARGET", value_parser = target)]
    targets: Vec<&'static Target>,
}

/// Returns the target of this name.
fn target(name: &str) -> Result<&'static Target, String> {
    let target = TARGETS.iter().find(|target| target.name == name);
    target.ok_or_else(|| {
        let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        format!("there are {}", names.join(", "))
    })
}

fn main() -> ExitCode {
    let args: Args = command_line::parse();
    let mut chosen = args.targets;
    if chosen.is_empty() {
        chosen.extend(TARGETS.iter().filter(|target| target.quick));
    }
    for target in chosen {
        if !run(target, args.count, args.seed, args.input) {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
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
