//! The workloads. A new one is a new entry here.

use super::Client::{Load, Own};
use super::Figure::{BytesPerConnection, CpuNs, Micros, OwnCpuNs, PerSecond, ServerPeak};
use super::{Measure, Plot, Processes, SIZE, Sweep, Target, Workload};
use crate::system::System::{Coalescent, Gossipsub, Hand, Iroh, Npm};
use crate::system::{self, System};

/// The systems that play both ends of a connection.
const BOTH_ENDS: &[System] = &[Hand, Coalescent];

const SIZES: Sweep = Sweep {
    of: SIZE,
    values: &[64, 1024, 65536],
    quick: &[64],
};

const SMALL_SIZES: Sweep = Sweep {
    of: SIZE,
    values: &[64, 1024],
    quick: &[64],
};

const CONNECTED: Sweep = Sweep {
    of: "connections",
    values: &[100, 300, 1000],
    quick: &[1000],
};

const STALLED: Sweep = Sweep {
    of: "stalled",
    values: &[0, 1],
    quick: &[1],
};

/// Deliveries, and the CPU time of the hub for each.
const fn deliveries(target: Target) -> [Measure; 2] {
    [
        Measure {
            figure: PerSecond("deliveries"),
            target,
        },
        Measure {
            figure: CpuNs {
                of: Processes::Server,
                per: "deliveries",
            },
            target: Target::None,
        },
    ]
}

/// Messages, and the CPU time of one end or both for each.
const fn messages(of: Processes, target: Target) -> [Measure; 2] {
    [
        Measure {
            figure: PerSecond("messages"),
            target,
        },
        Measure {
            figure: CpuNs {
                of,
                per: "messages",
            },
            target: Target::None,
        },
    ]
}

/// The median and the tail of a latency.
const fn latency(target: Target) -> [Measure; 2] {
    [
        Measure {
            figure: Micros("p50_us"),
            target,
        },
        Measure {
            figure: Micros("p99_us"),
            target,
        },
    ]
}

/// The fields of a workload that has no plot. An entry sets the others.
const PLAIN: Workload = Workload {
    name: "",
    meaning: "",
    systems: BOTH_ENDS,
    server: None,
    client: Own(""),
    sweep: SIZES,
    measures: &[],
    // Time to connect, to warm up, and to confirm the result.
    patience: 15.0,
    plot: None,
};

const LINES: Workload = Workload {
    plot: Some(Plot::Lines),
    ..PLAIN
};

const BARS: Workload = Workload {
    plot: Some(Plot::Bars),
    ..PLAIN
};

/// All workloads, in the order in which they run.
pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "hub-tattletale",
        meaning: "One publisher sends through a hub that relays all it reads to 8 subscribers.",
        systems: system::ALL,
        server: Some("hub --relay tattletale"),
        client: Load("load --publishers 1 --subscribers 8 --size {value} --seconds {seconds}"),
        sweep: SIZES,
        measures: &deliveries(Target::OfHand(&[0.9, 0.95, 1.0])),
        ..LINES
    },
    Workload {
        name: "hub-smartrelay",
        meaning: "The same hub drops what it saw before, by a keyed 128-bit hash of each message.",
        systems: system::ALL,
        server: Some("hub --relay smartrelay"),
        client: Load("load --publishers 1 --subscribers 8 --size {value} --seconds {seconds}"),
        sweep: SIZES,
        measures: &deliveries(Target::OfHand(&[0.9, 0.95, 1.0])),
        ..LINES
    },
    Workload {
        name: "one-hop",
        meaning: "One side sends bytes, the other reads each message.",
        systems: BOTH_ENDS,
        server: Some("receive"),
        client: Own("send --size {value} --seconds {seconds} --payload bytes"),
        sweep: SIZES,
        measures: &messages(Processes::Both, Target::OfHand(&[0.8, 0.9, 0.95])),
        ..LINES
    },
    Workload {
        name: "one-hop-typed",
        meaning: "One side sends typed values, the other decodes each.",
        systems: BOTH_ENDS,
        server: Some("receive --payload typed"),
        client: Own("send --size {value} --seconds {seconds} --payload typed"),
        sweep: SMALL_SIZES,
        measures: &messages(Processes::Both, Target::OfHand(&[0.8, 0.9])),
        ..PLAIN
    },
    Workload {
        name: "one-hop-tls",
        meaning: "One side sends bytes, the other reads each message, encrypted by the same rustls.",
        systems: BOTH_ENDS,
        server: Some("receive --tls"),
        client: Own("send --tls --size {value} --seconds {seconds} --payload bytes"),
        sweep: SIZES,
        measures: &messages(Processes::Both, Target::OfHand(&[0.9])),
        ..LINES
    },
    Workload {
        name: "stdin",
        meaning: "One side broadcasts the lines of a pipe, the other reads each message.",
        systems: BOTH_ENDS,
        server: Some("receive"),
        client: Own("pump --size {value} --seconds {seconds}"),
        sweep: SMALL_SIZES,
        measures: &messages(Processes::Both, Target::OfHand(&[0.8, 0.9])),
        ..PLAIN
    },
    Workload {
        name: "echo-latency",
        meaning: "A request and its answer, one at a time, asked by hand.",
        systems: BOTH_ENDS,
        server: Some("answer"),
        client: Load("echo --size {value} --seconds {seconds}"),
        sweep: SIZES,
        measures: &latency(Target::OfHand(&[1.1])),
        ..BARS
    },
    Workload {
        name: "ask-latency",
        meaning: "The same, asked by the system that answers.",
        systems: BOTH_ENDS,
        server: Some("answer"),
        client: Own("ask --size {value} --in-flight 1 --seconds {seconds}"),
        sweep: SIZES,
        measures: &latency(Target::OfHand(&[1.1])),
        ..BARS
    },
    Workload {
        name: "requests-64",
        meaning: "Requests and their answers, 64 in flight.",
        systems: BOTH_ENDS,
        server: Some("answer"),
        client: Load("ask --size {value} --in-flight 64 --seconds {seconds}"),
        sweep: SIZES,
        measures: &messages(Processes::Server, Target::OfHand(&[0.7, 0.8, 0.9])),
        ..LINES
    },
    Workload {
        name: "requests-1024",
        meaning: "Requests and their answers, 1,024 in flight.",
        systems: BOTH_ENDS,
        server: Some("answer"),
        client: Load("ask --size {value} --in-flight 1024 --seconds {seconds}"),
        sweep: SMALL_SIZES,
        measures: &messages(Processes::Server, Target::OfHand(&[0.7, 0.8])),
        ..PLAIN
    },
    Workload {
        name: "routes",
        meaning: "The same with 64 bytes and 64 in flight, for one of ever more routes.",
        systems: &[Coalescent],
        server: Some("answer --routes {value}"),
        client: Load("ask --size 64 --in-flight 64 --seconds {seconds}"),
        sweep: Sweep {
            of: "routes",
            values: &[1, 100, 10_000],
            quick: &[100],
        },
        measures: &messages(Processes::Server, Target::None),
        ..LINES
    },
    Workload {
        name: "relay-latency",
        meaning: "From one publisher through a hub to one subscriber, at 1,000 messages a second.",
        systems: system::ALL,
        server: Some("hub --relay tattletale"),
        client: Load("latency --size {value} --rate 1000 --seconds {seconds}"),
        sweep: SIZES,
        measures: &latency(Target::OfHand(&[1.0])),
        ..BARS
    },
    Workload {
        name: "idle-memory",
        meaning: "What a hub's resident memory grows by for each idle connection.",
        systems: system::ALL,
        server: Some("hub --relay tattletale"),
        client: Load("idle --connections {value}"),
        sweep: CONNECTED,
        measures: &[Measure {
            figure: BytesPerConnection,
            target: Target::Value(8192.0),
        }],
        ..BARS
    },
    Workload {
        name: "idle-memory-tls",
        meaning: "What a hub's resident memory grows by for each idle encrypted connection.",
        systems: BOTH_ENDS,
        // Connections are only held: the hand-written server holds bare streams of rustls.
        server: Some("hub --relay none --tls"),
        client: Own("idle --connections {value} --tls"),
        sweep: CONNECTED,
        measures: &[Measure {
            figure: BytesPerConnection,
            target: Target::OfHand(&[1.25]),
        }],
        patience: 30.0,
        ..PLAIN
    },
    Workload {
        name: "mesh",
        meaning: "1 KiB messages flood a random mesh of 30 nodes, each of which must get each exactly once.",
        systems: &[Hand, Coalescent, Gossipsub, Iroh],
        client: Own("mesh --nodes 30 --degree 5 --size 1024 --messages {value} --seed 1"),
        sweep: Sweep {
            of: "messages",
            values: &[2000],
            quick: &[200],
        },
        measures: &[
            Measure {
                figure: OwnCpuNs("deliveries"),
                target: Target::OfHand(&[1.2]),
            },
            Measure {
                figure: PerSecond("deliveries"),
                target: Target::None,
            },
        ],
        patience: 90.0,
        ..PLAIN
    },
    Workload {
        name: "fan-out",
        meaning: "One publisher sends 64-byte messages through a hub to ever more subscribers.",
        systems: system::ALL,
        server: Some("hub --relay tattletale"),
        client: Load("load --publishers 1 --subscribers {value} --size 64 --seconds {seconds}"),
        sweep: Sweep {
            of: "subscribers",
            values: &[1, 8, 64, 512, 1000],
            quick: &[64],
        },
        measures: &deliveries(Target::None),
        ..LINES
    },
    Workload {
        name: "dedup-window",
        meaning: "8 subscribers, 64 bytes: a smart relay that remembers messages in 32 bytes times its capacity.",
        systems: &[Coalescent],
        server: Some("hub --relay smartrelay --capacity {value}"),
        client: Load("load --publishers 1 --subscribers 8 --size 64 --seconds {seconds}"),
        sweep: Sweep {
            of: "capacity",
            values: &[1024, 32_768, 1_048_576],
            quick: &[1024],
        },
        measures: &deliveries(Target::None),
        ..LINES
    },
    Workload {
        name: "two-publishers",
        meaning: "A second publisher on the same hub adds throughput, not contention (1 KiB, 8 subscribers).",
        systems: system::ALL,
        server: Some("hub --relay tattletale"),
        client: Load("load --publishers {value} --subscribers 8 --size 1024 --seconds {seconds}"),
        sweep: Sweep {
            of: "publishers",
            values: &[1, 2],
            quick: &[1, 2],
        },
        measures: &deliveries(Target::OfFirst(1.0)),
        ..PLAIN
    },
    Workload {
        name: "stalled",
        meaning: "A subscriber more, which never reads, costs the other 8 little once a hub has cut it (1 KiB).",
        systems: &[Coalescent],
        // A peer is cut when it has taken nothing for 10 s.
        server: Some("hub --relay tattletale"),
        client: Load(
            "load --publishers 1 --subscribers 8 --stalled {value} --size 1024 \
                 --warmup 12 --seconds {seconds}",
        ),
        sweep: STALLED,
        measures: &[Measure {
            figure: PerSecond("deliveries"),
            target: Target::OfFirst(0.9),
        }],
        patience: 30.0,
        ..PLAIN
    },
    Workload {
        name: "stalled-memory",
        meaning: "What a hub holds at most while a subscriber more never reads (1 KiB, 8 subscribers).",
        systems: &[Coalescent, Npm],
        server: Some("hub --relay tattletale"),
        client: Load(
            "load --publishers 1 --subscribers 8 --stalled {value} --size 1024 --seconds {seconds}",
        ),
        sweep: Sweep {
            // In a quick run the 10 s until the peer is cut would be missing.
            quick: &[0],
            ..STALLED
        },
        measures: &[Measure {
            figure: ServerPeak,
            target: Target::None,
        }],
        patience: 30.0,
        ..PLAIN
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_entry_is_sound() {
        let mut names = BTreeSet::new();
        for workload in WORKLOADS {
            let name = workload.name;
            assert!(names.insert(name), "{name} is there twice");
            let heading = name.len() + 2 + workload.meaning.len();
            assert!(heading <= 120, "{name}: the heading is {heading} wide");
            assert!(!workload.systems.is_empty(), "{name} has no systems");
            assert!(!workload.measures.is_empty(), "{name} has no figures");
            let sweep = &workload.sweep;
            assert!(!sweep.quick.is_empty(), "{name} has no quick values");
            for measure in workload.measures {
                if let Target::OfHand(bounds) = measure.target {
                    let wanted = [1, sweep.values.len()];
                    assert!(wanted.contains(&bounds.len()), "{name}: {bounds:?}");
                    assert!(workload.systems.contains(&Hand), "{name} has no limit");
                }
            }
        }
    }
}
