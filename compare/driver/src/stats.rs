//! Medians, ratios and verdicts.

use serde::Serialize;

use crate::workload::Better;

/// The repetitions of a figure, summed up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// The one in the middle, or between the two there.
    pub(crate) median: f64,
    /// The least.
    pub(crate) min: f64,
    /// The greatest.
    pub(crate) max: f64,
    /// How many there are.
    pub(crate) repetitions: usize,
}

/// Sums up repetitions, if there are any.
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

/// One median to another, if it says anything.
pub(crate) fn ratio(of: Option<Summary>, to: Option<Summary>) -> Option<f64> {
    let (of, to) = (of?.median, to?.median);
    (to > 0.0).then_some(of / to)
}

/// What became of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// It is reached.
    Ok,
    /// It is not.
    Short,
}

impl Verdict {
    /// A word for a table.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Short => "short",
        }
    }
}

/// Whether a value is as good as its bound.
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
