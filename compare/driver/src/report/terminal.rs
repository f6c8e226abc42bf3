//! The ratios as a plain, aligned table.

use std::collections::BTreeSet;

use super::judged::{Row, rows, tally};
use super::units::{amount, ratio};
use crate::suite::Results;
use crate::system::System;

/// A line of the table.
enum Line {
    /// The heading of a workload.
    Heading(String),
    /// The cells of a row.
    Cells(Vec<String>),
}

/// Returns all workloads, with a row for each figure at each value.
pub(crate) fn table(results: &Results) -> String {
    let systems: Vec<System> = results
        .outcomes
        .iter()
        .flat_map(|outcome| &outcome.points)
        .flat_map(|point| &point.systems)
        .map(|(system, _)| *system)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let against_hand = systems.contains(&System::Hand);

    let mut header = vec!["at".to_owned(), "figure".to_owned()];
    header.extend(systems.iter().map(|system| system.to_string()));
    header.extend(["target".to_owned(), "reached".to_owned()]);
    let mut lines = vec![Line::Cells(header)];
    for outcome in &results.outcomes {
        let workload = outcome.workload;
        lines.push(Line::Heading(format!(
            "{}: {}",
            workload.name, workload.meaning
        )));
        for point in &outcome.points {
            for row in rows(outcome, point) {
                let at = format!("{} {}", workload.sweep.of, point.value);
                let mut cells = vec![at, row.figure.label()];
                let shown = systems
                    .iter()
                    .map(|system| cell(&row, *system, against_hand));
                cells.extend(shown);
                cells.extend(verdict(&row));
                lines.push(Line::Cells(cells));
            }
        }
    }

    let mut text = if against_hand {
        "hand: the median; others: the ratio of theirs to it, or theirs where hand has no part.\n\n"
            .to_owned()
    } else {
        "Medians.\n\n".to_owned()
    };
    text.push_str(&align(&lines));
    text.push('\n');
    text.push_str(&tally(results));
    text.push('\n');
    text
}

fn cell(row: &Row, system: System, against_hand: bool) -> String {
    let takes_part = row.systems.iter().any(|(known, _)| *known == System::Hand);
    let shown = if system == System::Hand || !against_hand || !takes_part {
        row.of(system)
            .map(|summary| amount(summary.median, row.figure.unit()))
    } else {
        row.ratio(system).map(ratio)
    };
    shown.unwrap_or_else(|| "-".to_owned())
}

fn verdict(row: &Row) -> [String; 2] {
    match &row.judged {
        None => [String::new(), String::new()],
        Some(judged) => {
            let reached = judged.reached.as_ref().map_or_else(
                || "-".to_owned(),
                |reached| format!("{} {}", reached.text, reached.verdict.word()),
            );
            [judged.target.clone(), reached]
        }
    }
}

/// Aligns the cells in columns: the first two to the left, the others to the right.
fn align(lines: &[Line]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for line in lines {
        if let Line::Cells(cells) = line {
            widths.resize(widths.len().max(cells.len()), 0);
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.chars().count());
            }
        }
    }
    let mut text = String::new();
    for line in lines {
        match line {
            Line::Heading(heading) => {
                text.push('\n');
                text.push_str(heading);
            }
            Line::Cells(cells) => {
                let padded = cells.iter().zip(&widths).enumerate();
                let padded: Vec<String> = padded
                    .map(|(column, (cell, width))| match column {
                        0 | 1 => format!("{cell:<width$}"),
                        _ => format!("{cell:>width$}"),
                    })
                    .collect();
                text.push_str(padded.join("  ").trim_end());
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::samples::{outcome, results};
    use super::*;
    use crate::workload::table::WORKLOADS;

    #[test]
    fn ratios_are_to_the_hand_written_limit() {
        let hub = outcome(
            "one-hop-typed",
            &[
                (System::Hand, &[2e6, 500.0]),
                (System::Coalescent, &[1.7e6, 600.0]),
            ],
        );
        let expected = "\
hand: the median; others: the ratio of theirs to it, or theirs where hand has no part.

at         figure         hand  coalescent  target      reached

one-hop-typed: One side sends typed values, the other decodes each.
size 64    messages/s   2.00 M       0.850  >=0.80     0.850 ok
size 64    CPU/message  500 ns       1.200
size 1024  messages/s   2.00 M       0.850  >=0.90  0.850 short
size 1024  CPU/message  500 ns       1.200

Targets of coalescent: 1 ok, 1 short, 0 not measured.
";
        assert_eq!(table(&results(vec![hub])), expected);
    }

    #[test]
    fn without_the_limit_medians_are_shown() {
        let hub = outcome("one-hop-typed", &[(System::Coalescent, &[1.7e6, 600.0])]);
        let table = table(&results(vec![hub]));
        assert!(table.starts_with("Medians.\n"), "{table}");
        assert!(table.contains("1.70 M"), "{table}");
    }

    #[test]
    fn nothing_is_wider_than_a_terminal() {
        let outcomes = WORKLOADS.iter().map(|workload| {
            let figures: &[f64] = &[123_456.0, 123_456.0];
            let systems: Vec<_> = workload
                .systems
                .iter()
                .map(|system| (*system, figures))
                .collect();
            outcome(workload.name, &systems)
        });
        let table = table(&results(outcomes.collect()));
        for line in table.lines() {
            assert!(line.chars().count() <= 120, "{line}");
        }
    }
}
