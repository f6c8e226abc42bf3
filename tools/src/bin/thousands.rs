//! Runs the table of scenarios with whole nodes in one process, and prints what was missed, and
//! what it cost.
//!
//! All scenarios with 200, 1,000 and 3,000 nodes; some of them, and the rows as JSON lines:
//!
//! ```text
//! cargo run --release -p coalescent-tools --bin thousands
//! cargo run --release -p coalescent-tools --bin thousands -- --nodes 1000 --only kill-80,burst \
//!     --json rows.jsonl
//! ```
//!
//! The plots of all rows in a file:
//!
//! ```text
//! cargo run --release -p coalescent-tools --bin thousands -- --plot docs/thousands.svg \
//!     --json rows.jsonl
//! ```

#[path = "../../../examples/support/command_line.rs"]
mod command_line;

use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use clap::Parser;
use command_line::number;
use peak_alloc::PeakAlloc;
use thousands::{HEAD, Options, Relay, Row, SCENARIOS, Scenario};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Runs the table of scenarios with whole nodes in one process.
#[derive(Parser)]
#[command(after_help = choices())]
struct Args {
    /// How many nodes there are: each scenario runs with each
    #[arg(
        long,
        value_name = "N,..",
        value_delimiter = ',',
        default_value = "200,1000,3000"
    )]
    #[arg(value_parser = number(1..=usize::MAX))]
    nodes: Vec<usize>,
    /// Run only these [default: all]
    #[arg(long, value_name = "SCENARIO,..", value_delimiter = ',', value_parser = scenario)]
    only: Vec<Scenario>,
    /// Run only with these [default: all]
    #[arg(long, value_name = "RELAY,..", value_delimiter = ',', value_parser = relay)]
    relay: Vec<Relay>,
    /// What is done to the nodes follows from it
    #[arg(long, value_name = "N", default_value_t = Options::default().seed)]
    seed: u64,
    /// How many messages a burst has
    #[arg(long, value_name = "MESSAGES", default_value_t = Options::default().burst)]
    burst: usize,
    /// How many messages a stream has
    #[arg(long, value_name = "MESSAGES", default_value_t = Options::default().stream)]
    stream: usize,
    /// Add each row to FILE as a line of JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Run nothing, and draw what is in the file of --json
    #[arg(long, value_name = "FILE", requires = "json")]
    plot: Option<PathBuf>,
}

/// Returns the scenarios and relays that there are, as text.
fn choices() -> String {
    let row = |scenario: &Scenario| format!("  {:12}{}\n", scenario.name, scenario.meaning);
    let scenarios: String = SCENARIOS.iter().map(row).collect();
    let relays = Relay::ALL.map(Relay::name).join(", ");
    format!("Scenarios:\n{scenarios}\nRelays: {relays}")
}

fn scenario(name: &str) -> Result<Scenario, &'static str> {
    Scenario::named(name).ok_or("there is none of this name; --help lists them")
}

fn relay(name: &str) -> Result<Relay, &'static str> {
    Relay::named(name).ok_or("there is none of this name; --help lists them")
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Args = command_line::parse();
    let options = Options {
        memory: || MEMORY.current_usage(),
        seed: args.seed,
        burst: args.burst,
        stream: args.stream,
        ..Options::default()
    };
    let scenarios = or_all(args.only, &SCENARIOS);
    let relays = or_all(args.relay, &Relay::ALL);
    let json = args.json;
    if let Some(plot) = args.plot {
        let text = fs::read_to_string(json.ok_or("--plot needs --json")?)?;
        let rows: Result<Vec<Row>, _> = text.lines().map(serde_json::from_str).collect();
        return Ok(fs::write(plot, thousands::draw(&rows?)?)?);
    }
    println!("{HEAD}");
    for nodes in args.nodes {
        for scenario in &scenarios {
            for relay in &relays {
                let row = scenario.run(*relay, nodes, &options);
                println!("{row}");
                if let Some(path) = &json {
                    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
                    writeln!(file, "{}", serde_json::to_string(&row)?)?;
                }
            }
        }
    }
    Ok(())
}

/// Returns what was chosen, or all if nothing was.
fn or_all<T: Clone>(chosen: Vec<T>, all: &[T]) -> Vec<T> {
    match chosen.is_empty() {
        true => all.to_vec(),
        false => chosen,
    }
}
