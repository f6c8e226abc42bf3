//! The scenarios at a size that every run of the tests can bear. What is asserted follows from
//! simulated time: what was missed, who is connected to how many, how many copies arrive. What a
//! clock or a busy machine could change is not.

use thousands::{Options, Relay, Row, Scenario};

const NODES: usize = 200;

fn run(name: &str, relay: Relay) -> Row {
    let options = Options {
        burst: 200,
        stream: 100,
        ..Options::default()
    };
    let scenario = Scenario::named(name).expect("a scenario");
    let row = scenario.run(relay, NODES, &options);
    println!("{row}");
    row
}

#[test]
fn baseline() {
    for name in [
        "row",
        "storm-1",
        "storm-3",
        "split",
        "kill-50",
        "kill-80",
        "burst",
        "one-sender",
        "senders",
    ] {
        let t = std::time::Instant::now();
        run(name, Relay::Fixed);
        println!("{name} {:?}", t.elapsed());
    }
}
