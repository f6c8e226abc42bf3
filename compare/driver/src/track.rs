//! The CPU time of a process over time.

use std::time::{Duration, Instant};

use crate::procfs::CpuTime;

/// The CPU time of a process at each look at it, in order.
#[derive(Debug, Default)]
pub(crate) struct Track(Vec<(Instant, CpuTime)>);

impl Track {
    /// Makes a track of a process that starts now.
    pub(crate) fn from(started: Instant) -> Track {
        Track(vec![(started, CpuTime::default())])
    }

    /// Adds a look.
    pub(crate) fn add(&mut self, when: Instant, cpu: CpuTime) {
        self.0.push((when, cpu));
    }

    /// Returns the CPU time at the last look.
    pub(crate) fn last(&self) -> CpuTime {
        self.0.last().map(|(_, cpu)| *cpu).unwrap_or_default()
    }

    /// Returns the CPU time at a moment, in seconds, interpolated between two looks.
    fn at(&self, when: Instant) -> f64 {
        let after = self.0.partition_point(|(looked, _)| *looked <= when);
        let earlier = after.checked_sub(1).and_then(|index| self.0.get(index));
        match (earlier, self.0.get(after)) {
            (Some((t0, c0)), Some((t1, c1))) => {
                let share = when.duration_since(*t0).as_secs_f64()
                    / t1.duration_since(*t0).as_secs_f64().max(f64::EPSILON);
                c0.total() + (c1.total() - c0.total()) * share
            }
            (Some((_, cpu)), None) => cpu.total(),
            _ => 0.0,
        }
    }

    /// Returns the most CPU time in any stretch of so many seconds.
    pub(crate) fn busiest(&self, seconds: f64) -> f64 {
        let stretch = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        let Some((end, _)) = self.0.last() else {
            return 0.0;
        };
        let whole = self.last().total();
        let stretches = self.0.iter().map_while(|(begin, cpu)| {
            let until = begin.checked_add(stretch)?;
            (until <= *end).then(|| self.at(until) - cpu.total())
        });
        stretches.reduce(f64::max).unwrap_or(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_track_is_read_between_its_points() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let used = |user| CpuTime { user, system: 0.0 };
        let mut track = Track::from(start);
        track.add(after(1000), used(0.5));
        track.add(after(2000), used(1.5));
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} is not {b}");
        close(track.at(after(1500)), 1.0);
        close(track.at(after(9000)), 1.5);
        close(track.busiest(1.0), 1.0);
        close(track.busiest(1.5), 1.0);
        close(track.busiest(2.0), 1.5);
        close(track.busiest(9.0), 1.5);
        close(Track::default().busiest(1.0), 0.0);
    }
}
