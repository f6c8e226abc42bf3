//! The results as a document.

use super::Preface;
use super::judged::{JUDGED, Row, rows, tally};
use super::units::{amount, ratio};
use crate::plot::plot_name;
use crate::suite::{Outcome, Point, Results};
use crate::system::System;
use crate::workload::Unit;

/// Returns the document: the conditions, and a section for each workload.
pub(crate) fn document(preface: &Preface, results: &Results) -> String {
    let mut text = String::from("# Results of the comparison\n\n");
    text.push_str(&where_and_how(preface));
    if !results.left_out.is_empty() {
        text.push_str("\nLeft out or failed:\n\n");
        for left_out in &results.left_out {
            text.push_str(&format!("- {}\n", escape(&left_out.to_string())));
        }
    }
    text.push_str(&format!("\n{}\n", tally(results)));
    for outcome in &results.outcomes {
        text.push_str(&section(outcome));
    }
    text
}

fn where_and_how(preface: &Preface) -> String {
    let machine = &preface.machine;
    let warning = if preface.quick {
        " A quick run: it shows that all works, and nothing else."
    } else {
        ""
    };
    format!(
        "{began}, commit {commit}, on {cpu}, {cores} cores, {memory}, Linux {kernel}, {rustc}, node {node}.\n\
         Medians of {repetitions} interleaved runs of {seconds} s each.{warning} \
         The command that wrote this wrote every run to `{name}.json` beside it, which is not kept in git.\n",
        began = preface.began,
        commit = machine.commit,
        cpu = machine.cpu,
        cores = machine.cores,
        memory = amount(machine.memory_bytes as f64, Unit::Bytes),
        kernel = machine.kernel,
        rustc = machine.rustc,
        node = machine.node,
        repetitions = preface.repetitions,
        seconds = preface.seconds,
        name = preface.name,
    )
}

fn section(outcome: &Outcome) -> String {
    let workload = outcome.workload;
    let mut text = format!(
        "\n## {}\n\n{}\n\n\
         | {} | figure | system | median | min..max | of hand | target | reached |\n\
         | ---: | --- | --- | ---: | ---: | ---: | ---: | ---: |\n",
        workload.name, workload.meaning, workload.sweep.of
    );
    for point in &outcome.points {
        for row in rows(outcome, point) {
            for (system, _) in &row.systems {
                text.push_str(&line(point, &row, *system));
            }
        }
    }
    if workload.plot.is_some() {
        text.push_str(&format!(
            "\n![{}]({})\n",
            workload.name,
            plot_name(workload)
        ));
    }
    text
}

fn line(point: &Point, row: &Row, system: System) -> String {
    let unit = row.figure.unit();
    let (median, range) = match row.of(system) {
        Some(summary) => (
            amount(summary.median, unit),
            format!(
                "{}..{}",
                amount(summary.min, unit),
                amount(summary.max, unit)
            ),
        ),
        None => ("-".to_owned(), String::new()),
    };
    let of_hand = match row.ratio(system) {
        Some(value) if system != System::Hand => ratio(value),
        _ => String::new(),
    };
    let (target, reached) = match &row.judged {
        Some(judged) if system == JUDGED => (
            judged.target.clone(),
            judged.reached.as_ref().map_or_else(
                || "not measured".to_owned(),
                |reached| format!("{} **{}**", reached.text, reached.verdict.word()),
            ),
        ),
        _ => (String::new(), String::new()),
    };
    let (value, label) = (point.value, row.figure.label());
    format!(
        "| {value} | {label} | {system} | {median} | {range} | {of_hand} | {target} | {reached} |\n"
    )
}

/// Escapes the output of a program for Markdown.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if "\\`*_<>[]|#&".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::samples::{outcome, preface, results};
    use super::*;

    #[test]
    fn a_document_has_the_machine_and_each_system() {
        let hub = outcome(
            "hub-tattletale",
            &[
                (System::Hand, &[2e6, 500.0]),
                (System::Coalescent, &[1.9e6, 600.0]),
            ],
        );
        let document = document(&preface(), &results(vec![hub]));
        for expected in [
            "on A Processor, 2 cores, 8.00 GiB, Linux 6.1",
            "- iroh: not built, bin/iroh is missing\n",
            "## hub-tattletale\n",
            "| 64 | deliveries/s | hand | 2.00 M | 1.00 M..4.00 M |  |  |  |\n",
            "| 64 | deliveries/s | coalescent | 1.90 M | 950 k..3.80 M | 0.950 | >=0.90 | 0.950 **ok** |\n",
            "| 65536 | deliveries/s | coalescent | 1.90 M | 950 k..3.80 M | 0.950 | >=1.00 | 0.950 **short** |\n",
            "![hub-tattletale](hub-tattletale.svg)\n",
        ] {
            assert!(document.contains(expected), "no {expected:?} in {document}");
        }
    }

    #[test]
    fn the_output_of_a_program_is_escaped() {
        assert_eq!(escape("a *b* <c>"), "a \\*b\\* \\<c\\>");
    }
}
