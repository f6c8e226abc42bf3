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

use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use lexopt::prelude::*;
use peak_alloc::PeakAlloc;
use thousands::{HEAD, Options, Relay, Row, SCENARIOS, Scenario};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const USAGE: &str = "\
thousands [--nodes N,..] [--seed N] [--only SCENARIO,..] [--relay RELAY,..] [--burst MESSAGES]
          [--stream MESSAGES] [--json FILE] [--plot FILE]

  --json FILE   adds each row to FILE as a line of JSON
  --plot FILE   runs nothing, and draws what is in the file of --json";

fn main() -> Result<(), Box<dyn Error>> {
    let mut options = Options {
        memory: || MEMORY.current_usage(),
        ..Options::default()
    };
    let mut nodes = vec![200, 1_000, 3_000];
    let mut scenarios = SCENARIOS.to_vec();
    let mut relays = Relay::ALL.to_vec();
    let (mut json, mut plot) = (None, None);
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("nodes") => nodes = list(&arguments.value()?.string()?, |n| n.parse().ok())?,
            Long("only") => scenarios = list(&arguments.value()?.string()?, Scenario::named)?,
            Long("relay") => relays = list(&arguments.value()?.string()?, Relay::named)?,
            Long("seed") => options.seed = arguments.value()?.parse()?,
            Long("burst") => options.burst = arguments.value()?.parse()?,
            Long("stream") => options.stream = arguments.value()?.parse()?,
            Long("json") => json = Some(PathBuf::from(arguments.value()?)),
            Long("plot") => plot = Some(PathBuf::from(arguments.value()?)),
            Long("help") => {
                println!("{USAGE}\n\nscenarios:");
                for scenario in SCENARIOS {
                    println!("  {:12}{}", scenario.name, scenario.meaning);
                }
                println!("relays: {}", Relay::ALL.map(Relay::name).join(", "));
                return Ok(());
            }
            other => return Err(other.unexpected().into()),
        }
    }
    if let Some(plot) = plot {
        let text = fs::read_to_string(json.ok_or("--plot needs --json")?)?;
        let rows: Result<Vec<Row>, _> = text.lines().map(serde_json::from_str).collect();
        return Ok(fs::write(plot, thousands::draw(&rows?)?)?);
    }
    println!("{HEAD}");
    for nodes in nodes {
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

/// Reads a list whose items are separated by commas.
fn list<T>(text: &str, item: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, String> {
    let items = text.split(',');
    items
        .map(|name| item(name).ok_or_else(|| format!("what is {name:?}? See --help")))
        .collect()
}
