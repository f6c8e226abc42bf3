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
