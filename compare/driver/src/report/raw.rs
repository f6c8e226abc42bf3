//! The raw results: every run, as JSON.

use serde::Serialize;

use super::Preface;
use crate::measure::Run;
use crate::stats::Summary;
use crate::suite::{LeftOut, Results};

#[derive(Serialize)]
struct Raw<'a> {
    #[serde(flatten)]
    preface: &'a Preface,
    left_out: &'a [LeftOut],
    workloads: Vec<RawWorkload<'a>>,
}

#[derive(Serialize)]
struct RawWorkload<'a> {
    name: &'static str,
    meaning: &'static str,
    sweep: &'static str,
    /// The names of the figures of a run.
    figures: Vec<String>,
    points: Vec<RawPoint<'a>>,
}

#[derive(Serialize)]
struct RawPoint<'a> {
    value: u64,
    systems: Vec<RawSystem<'a>>,
}

#[derive(Serialize)]
struct RawSystem<'a> {
    system: &'static str,
    /// In the order of the figures.
    summaries: Vec<Option<Summary>>,
    runs: &'a [Run],
}

/// Returns the results as JSON. Times are in seconds unless the name of a figure says otherwise,
/// sizes in bytes.
pub(crate) fn raw(preface: &Preface, results: &Results) -> serde_json::Result<String> {
    let workloads = results.outcomes.iter().map(|outcome| {
        let workload = outcome.workload;
        let points = outcome.points.iter().map(|point| RawPoint {
            value: point.value,
            systems: point
                .systems
                .iter()
                .map(|(system, runs)| RawSystem {
                    system: system.name(),
                    summaries: (0..workload.measures.len())
                        .map(|figure| point.summary(*system, figure))
                        .collect(),
                    runs,
                })
                .collect(),
        });
        RawWorkload {
            name: workload.name,
            meaning: workload.meaning,
            sweep: workload.sweep.of,
            figures: workload
                .measures
                .iter()
                .map(|measure| measure.figure.name())
                .collect(),
            points: points.collect(),
        }
    });
    serde_json::to_string_pretty(&Raw {
        preface,
        left_out: &results.left_out,
        workloads: workloads.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::samples::{outcome, preface, results};
    use super::*;
    use crate::system::System;

    #[test]
    fn every_run_is_there() -> serde_json::Result<()> {
        let hub = outcome("hub-tattletale", &[(System::Hand, &[2e6, 500.0])]);
        let text = raw(&preface(), &results(vec![hub]))?;
        let raw: serde_json::Value = serde_json::from_str(&text)?;
        assert_eq!(raw["machine"]["cores"], 2);
        assert_eq!(raw["left_out"][0]["system"], "iroh");
        let workload = &raw["workloads"][0];
        assert_eq!(workload["figures"][0], "deliveries_per_second");
        assert_eq!(workload["figures"][1], "server_cpu_ns_per_delivery");
        let hand = &workload["points"][2]["systems"][0];
        assert_eq!(hand["summaries"][0]["median"], 2e6);
        assert_eq!(hand["runs"].as_array().map(Vec::len), Some(3));
        assert_eq!(hand["runs"][1]["figures"][1], 250.0);
        assert_eq!(hand["runs"][1]["client"]["user_seconds"], 1.0);
        Ok(())
    }
}
