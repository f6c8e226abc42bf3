//! Sample results.

use super::Preface;
use crate::machine::Machine;
use crate::measure::Run;
use crate::process::Usage;
use crate::suite::{LeftOut, Outcome, Point, Results};
use crate::system::System;
use crate::workload::table::WORKLOADS;

fn run(figures: Vec<f64>) -> Run {
    let client = Usage {
        wall_seconds: 2.5,
        user_seconds: 1.0,
        system_seconds: 0.5,
        peak_rss_bytes: 1 << 20,
    };
    Run {
        figures,
        result: serde_json::json!({ "seconds": 2.0 }),
        client,
        server: None,
    }
}

/// Returns an outcome of the named workload with three runs at each value, whose medians are
/// the figures of `systems`.
pub(crate) fn outcome(name: &str, systems: &[(System, &[f64])]) -> Outcome {
    let workload = WORKLOADS
        .iter()
        .find(|workload| workload.name == name)
        .unwrap_or(&WORKLOADS[0]);
    let points = workload.sweep.values.iter().map(|value| Point {
        value: *value,
        systems: systems
            .iter()
            .map(|(system, figures)| {
                let runs = [1.0, 0.5, 2.0]
                    .iter()
                    .map(|factor| run(figures.iter().map(|figure| figure * factor).collect()));
                (*system, runs.collect())
            })
            .collect(),
    });
    Outcome {
        workload,
        points: points.collect(),
    }
}

pub(crate) fn results(outcomes: Vec<Outcome>) -> Results {
    Results {
        outcomes,
        left_out: vec![LeftOut {
            system: System::Iroh,
            why: "not built, bin/iroh is missing".to_owned(),
        }],
    }
}

pub(crate) fn preface() -> Preface {
    Preface {
        name: "sample".to_owned(),
        began: "2025-01-01T000000Z".to_owned(),
        machine: Machine {
            cpu: "A Processor".to_owned(),
            cores: 2,
            memory_bytes: 8 << 30,
            kernel: "6.1".to_owned(),
            rustc: "rustc 1.90".to_owned(),
            node: "v20".to_owned(),
            commit: "0123abcd".to_owned(),
        },
        repetitions: 3,
        seconds: 2.0,
        quick: false,
    }
}
