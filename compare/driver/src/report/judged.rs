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
mod tests {
    use super::super::samples::{outcome, results};
    use super::*;

    fn words(outcome: &Outcome) -> Vec<String> {
        outcome
            .points
            .iter()
            .flat_map(|point| rows(outcome, point))
            .filter_map(|row| row.judged)
            .map(|judged| match judged.reached {
                Some(reached) => {
                    format!(
                        "{} {} {}",
                        judged.target,
                        reached.text,
                        reached.verdict.word()
                    )
                }
                None => format!("{} -", judged.target),
            })
            .collect()
    }

    #[test]
    fn a_ratio_is_held_against_the_target_of_its_value() {
        let hub = outcome(
            "hub-tattletale",
            &[
                (System::Hand, &[100.0, 5.0]),
                (System::Coalescent, &[92.0, 5.0]),
            ],
        );
        assert_eq!(
            words(&hub),
            [
                ">=0.90 0.920 ok",
                ">=0.95 0.920 short",
                ">=1.00 0.920 short"
            ]
        );
    }

    #[test]
    fn a_latency_must_be_less() {
        let echo = outcome(
            "echo-latency",
            &[
                (System::Hand, &[100.0, 100.0]),
                (System::Coalescent, &[105.0, 120.0]),
            ],
        );
        assert_eq!(words(&echo)[..2], ["<=1.10 1.050 ok", "<=1.10 1.200 short"]);
    }

    #[test]
    fn a_target_can_be_a_value() {
        let idle = outcome("idle-memory", &[(System::Coalescent, &[4096.0])]);
        assert_eq!(words(&idle), ["<=8.00 KiB 4.00 KiB ok"; 3]);
    }

    #[test]
    fn a_target_can_be_against_the_first_value() {
        let publishers = outcome("two-publishers", &[(System::Coalescent, &[10.0, 1.0])]);
        assert_eq!(words(&publishers), [">=1.00 of 1 1.000 ok"]);
    }

    #[test]
    fn an_unmeasured_target_is_not_missed() {
        let hub = outcome("hub-tattletale", &[(System::Coalescent, &[92.0, 5.0])]);
        assert_eq!(words(&hub), [">=0.90 -", ">=0.95 -", ">=1.00 -"]);
        let tally = tally(&results(vec![hub]));
        assert_eq!(
            tally,
            "Targets of coalescent: 0 ok, 0 short, 3 not measured."
        );
    }
}
