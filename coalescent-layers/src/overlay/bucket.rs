//! A rate with a burst.

use std::time::Duration;

use tokio::time::Instant;

/// Gives out tokens: some at once, and then one in each period.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    burst: u32,
    every: Duration,
    left: u32,
    /// When the last token was put back.
    filled: Option<Instant>,
}

impl Bucket {
    /// Makes a full bucket, to which a token is added `every` so often.
    pub(crate) const fn new(burst: u32, every: Duration) -> Self {
        Self {
            burst,
            every,
            left: burst,
            filled: None,
        }
    }

    /// Takes up to `count` tokens, and returns how many it got.
    pub(crate) fn take(&mut self, count: u32, now: Instant) -> u32 {
        let filled = *self.filled.get_or_insert(now);
        let passed = now.saturating_duration_since(filled).as_nanos();
        let new = passed / self.every.as_nanos().max(1);
        let new = u32::try_from(new).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(new).min(self.burst);
        // What was left over of a period counts for the next token, unless the bucket is full.
        self.filled = match self.every.checked_mul(new) {
            Some(used) if self.left < self.burst => filled.checked_add(used),
            _ => None,
        }
        .or(Some(now));
        let got = count.min(self.left);
        self.left -= got;
        got
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_a_rate() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut bucket = Bucket::new(3, second);
        assert_eq!(bucket.take(2, start), 2);
        assert_eq!(bucket.take(2, start), 1);
        assert_eq!(bucket.take(1, start), 0);
        let half = start + second * 3 / 2;
        assert_eq!(bucket.take(5, half), 1);
        assert_eq!(bucket.take(5, start + second * 2), 1, "halves count");
        assert_eq!(
            bucket.take(9, start + second * 1000),
            3,
            "no more than the burst"
        );
    }
}
