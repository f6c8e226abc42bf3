//! Medians, ratios and verdicts.

use serde::Serialize;

use crate::workload::Better;

/// A summary of the repetitions of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// The median.
    pub(crate) median: f64,
    /// The minimum.
    pub(crate) min: f64,
    /// The maximum.
    pub(crate) max: f64,
    /// The number of repetitions.
    pub(crate) repetitions: usize,
}

/// Summarizes repetitions; returns `None` without any.
pub(crate) fn summarize(mut values: Vec<f64>) -> Option<Summary> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    let median = if values.len().is_multiple_of(2) {
        f64::midpoint(*values.get(middle.checked_sub(1)?)?, upper)
    } else {
        upper
    };
    Some(Summary {
        median,
        min: *values.first()?,
        max: *values.last()?,
        repetitions: values.len(),
    })
}

/// Returns the ratio of one median to another, if there are both.
pub(crate) fn ratio(of: Option<Summary>, to: Option<Summary>) -> Option<f64> {
    let (of, to) = (of?.median, to?.median);
    (to > 0.0).then_some(of / to)
}

/// Whether a target is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// It is met.
    Ok,
    /// It is missed.
    Short,
}

impl Verdict {
    /// Returns the word for tables.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Short => "short",
        }
    }
}

/// Compares a value with its bound.
pub(crate) fn judge(value: f64, bound: f64, better: Better) -> Verdict {
    let reached = match better {
        Better::More => value >= bound,
        Better::Less => value <= bound,
    };
    if reached { Verdict::Ok } else { Verdict::Short }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn median(values: &[f64]) -> Option<f64> {
        summarize(values.to_vec()).map(|summary| summary.median)
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), Some(3.0));
        let summary = summarize(vec![9.0, 1.0, 2.0]);
        let expected = Summary {
            median: 2.0,
            min: 1.0,
            max: 9.0,
            repetitions: 3,
        };
        assert_eq!(summary, Some(expected));
    }

    #[test]
    fn a_ratio_needs_both() {
        let (two, four) = (summarize(vec![2.0]), summarize(vec![4.0]));
        assert_eq!(ratio(two, four), Some(0.5));
        assert_eq!(ratio(two, None), None);
        assert_eq!(ratio(None, four), None);
        assert_eq!(ratio(two, summarize(vec![0.0])), None);
    }

    #[test]
    fn a_verdict_follows_what_is_better() {
        assert_eq!(judge(0.9, 0.9, Better::More), Verdict::Ok);
        assert_eq!(judge(0.899, 0.9, Better::More), Verdict::Short);
        assert_eq!(judge(1.1, 1.1, Better::Less), Verdict::Ok);
        assert_eq!(judge(1.101, 1.1, Better::Less), Verdict::Short);
    }
}
