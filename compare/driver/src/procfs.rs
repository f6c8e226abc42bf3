//! CPU time and memory of a process, from `/proc`. Reading it needs no `unsafe`, and the times of a
//! process that has ended stay there until it is reaped.

use std::fs;

/// CPU time of a process with all its threads.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct CpuTime {
    /// In the process itself, in seconds.
    pub(crate) user: f64,
    /// In the kernel for it, in seconds.
    pub(crate) system: f64,
}

impl CpuTime {
    /// Returns the sum of both.
    pub(crate) fn total(self) -> f64 {
        self.user + self.system
    }
}

/// Returns the CPU time of a process that was not reaped yet.
pub(crate) fn cpu_time(pid: u32) -> Option<CpuTime> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&stat, rustix::param::clock_ticks_per_second())
}

/// Returns the peak of the resident memory of a running process, in bytes.
pub(crate) fn peak_memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    parse_kib(&status, "VmHWM:")
}

/// Returns the resident memory of a running process, in bytes: the exact count if the kernel has
/// one.
pub(crate) fn resident_memory(pid: u32) -> Option<u64> {
    let exact = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        .ok()
        .and_then(|rollup| parse_kib(&rollup, "Rss:"));
    exact.or_else(|| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        parse_kib(&status, "VmRSS:")
    })
}

/// Parses the times in `/proc/PID/stat`. The name of the program, in parentheses, may contain
/// anything.
fn parse_stat(stat: &str, ticks_per_second: u64) -> Option<CpuTime> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let mut seconds = || {
        let ticks: u64 = fields.next()?.parse().ok()?;
        Some(ticks as f64 / ticks_per_second as f64)
    };
    Some(CpuTime {
        user: seconds()?,
        system: seconds()?,
    })
}

/// Parses a line `NAME: 12 kB`, in bytes.
fn parse_kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 7 8 20 0 4 0 1 2 3";
        let expected = CpuTime {
            user: 2.5,
            system: 0.5,
        };
        assert_eq!(parse_stat(stat, 100), Some(expected));
        assert_eq!(expected.total(), 3.0);
        assert_eq!(parse_stat("42 (cut) S 1 42", 100), None);
        assert_eq!(parse_stat("", 100), None);
    }

    #[test]
    fn memory_is_in_kib() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(parse_kib(status, "VmHWM:"), Some(2 << 20));
        assert_eq!(parse_kib(status, "VmRSS:"), Some(1 << 20));
        assert_eq!(parse_kib(status, "Rss:"), None);
    }

    #[test]
    fn this_process_has_times_and_memory() {
        let pid = std::process::id();
        assert!(cpu_time(pid).is_some());
        let resident = resident_memory(pid).unwrap_or(0);
        assert!(resident > 0);
        assert!(peak_memory(pid).unwrap_or(0) > 0);
    }
}
