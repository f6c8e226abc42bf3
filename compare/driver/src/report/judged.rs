//! Figures and their targets.

use super::units::{amount, ratio as ratio_text};
use crate::stats::{Summary, Verdict, judge, ratio};
use crate::suite::{Outcome, Point, Results};
use crate::system::System;
use crate::workload::{Better, Figure, Target};

/// The system that has to meet the targets.
pub(super) const JUDGED: System = System::Coalescent;

/// A figure of all systems, at one value of a workload.
#[derive(Debug)]
pub(super) struct Row {
    /// The figure.
    pub(super) figure: Figure,
    /// The systems that were to take part, in order.
    pub(super) systems: Vec<(System, Option<Summary>)>,
    /// The target, if there is one.
    pub(super) judged: Option<Judged>,
}

/// A target, and whether it was met.
#[derive(Debug)]
pub(super) struct Judged {
    /// The target, as text.
    pub(super) target: String,
    /// The result, if it was measured.
    pub(super) reached: Option<Reached>,
}

/// A result in terms of its target.
#[derive(Debug)]
pub(super) struct Reached {
    /// The result as text.
    pub(super) text: String,
    /// Whether it meets the target.
    pub(super) verdict: Verdict,
}

impl Row {
    /// Returns the summary of a system.
    pub(super) fn of(&self, system: System) -> Option<Summary> {
        let (_, summary) = self.systems.iter().find(|(known, _)| *known == system)?;
        *summary
    }

    /// Returns the ratio of a system to `hand`.
    pub(super) fn ratio(&self, system: System) -> Option<f64> {
        ratio(self.of(system), self.of(System::Hand))
    }
}

/// Returns the figures at a point of an outcome.
pub(super) fn rows(outcome: &Outcome, point: &Point) -> Vec<Row> {
    let measures = outcome.workload.measures.iter().enumerate();
    measures
        .map(|(index, measure)| Row {
            figure: measure.figure,
            systems: point
                .systems
                .iter()
                .map(|(system, _)| (*system, point.summary(*system, index)))
                .collect(),
            judged: judged(outcome, point, index, measure.target),
        })
        .collect()
}

fn judged(outcome: &Outcome, point: &Point, index: usize, target: Target) -> Option<Judged> {
    let workload = outcome.workload;
    let bound = target.at(&workload.sweep, point.value)?;
    let figure = workload.measures.get(index)?.figure;
    let sign = match figure.better() {
        Better::More => ">=",
        Better::Less => "<=",
    };
    let own = point.summary(JUDGED, index);
    let (target, value, as_text): (_, _, fn(f64, Figure) -> String) = match target {
        Target::None => return None,
        Target::OfHand(_) => (
            format!("{sign}{bound:.2}"),
            ratio(own, point.summary(System::Hand, index)),
            |value, _| ratio_text(value),
        ),
        Target::OfFirst(_) => {
            let first = *workload.sweep.values.first()?;
            let first_point = outcome.points.iter().find(|point| point.value == first);
            (
                format!("{sign}{bound:.2} of {first}"),
                ratio(
                    own,
                    first_point.and_then(|point| point.summary(JUDGED, index)),
                ),
                |value, _| ratio_text(value),
            )
        }
        Target::Value(_) => (
            format!("{sign}{}", amount(bound, figure.unit())),
            own.map(|summary| summary.median),
            |value, figure| amount(value, figure.unit()),
        ),
    };
    Some(Judged {
        target,
        reached: value.map(|value| Reached {
            text: as_text(value, figure),
            verdict: judge(value, bound, figure.better()),
        }),
    })
}

/// Returns a line with the numbers of targets that are met, missed and not measured.
pub(super) fn tally(results: &Results) -> String {
    let (mut ok, mut short, mut open) = (0, 0, 0);
    for outcome in &results.outcomes {
        for point in &outcome.points {
            for judged in rows(outcome, point)
                .iter()
                .filter_map(|row| row.judged.as_ref())
            {
                match judged.reached.as_ref().map(|reached| reached.verdict) {
                    Some(Verdict::Ok) => ok += 1,
                    Some(Verdict::Short) => short += 1,
                    None => open += 1,
                }
            }
        }
    }
    format!("Targets of {JUDGED}: {ok} ok, {short} short, {open} not measured.")
}

#[cfg(test)]
#[path = "judged_tests.rs"]
mod tests;
