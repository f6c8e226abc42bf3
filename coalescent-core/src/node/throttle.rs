//! Limits on how many lines are told about each source. [`Throttle`] decides; [`Reports`] gives
//! it the time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::transport::group::Group;
use crate::transport::identity::PublicKey;

/// How many log lines, and how many error events, are told in a minute about one address (for IPv6,
/// about one /64).
pub const LINES_PER_SOURCE: u32 = 100;

/// How many log lines, and how many error events, are told in a minute about all peers and
/// strangers together. As many more may be told about this node itself.
pub const LINES_PER_NODE: u32 = 1000;

/// The most memory that the throttles of a node use, in bytes: for lines and for errors, a table of
/// twice as many slots as there are lines.
pub(crate) const THROTTLE_BYTES: usize =
    2 * 2 * (LINES_PER_NODE as usize + 1).next_power_of_two() * (size_of::<(Source, u32)>() + 1);

/// The period of these limits.
const WINDOW: Duration = Duration::from_secs(60);

/// The party that a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// This node itself.
    Own,
    /// Everybody at one address, or without one. The number that a peer chose for itself does not
    /// count: it could choose a new one each time.
    Group(Group),
    /// The holder of this proven key, over a transport without addresses.
    Key(PublicKey),
}

impl Source {
    pub(crate) fn at(ip: Option<IpAddr>) -> Self {
        Self::Group(Group::of(ip))
    }

    fn limit(self) -> u32 {
        match self {
            Self::Own => LINES_PER_NODE,
            Self::Group(_) | Self::Key(_) => LINES_PER_SOURCE,
        }
    }
}

/// The decision about a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Tell it, after the number of lines that were left out in a minute that has ended.
    Tell { left_out: u64 },
    /// Leave it out; it has been counted.
    LeaveOut,
}

/// A limiter of lines per minute, for each source and in total. The minute begins with the first
/// line.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    /// When the current minute began, if there was a line in it.
    since: Option<Instant>,
    /// The number of lines told about each source. Sources without a told line have no entry, so
    /// there are no more entries than lines.
    told: HashMap<Source, u32>,
    /// The number of lines told that are not about this node itself.
    strangers: u32,
    /// The number of lines left out.
    left_out: u64,
}

impl Throttle {
    /// Decides about one line, and counts it.
    pub(crate) fn decide(&mut self, source: Source, now: Instant) -> Decision {
        let left_out = self.expire(now);
        if self.since.is_none() {
            self.since = Some(now);
        }
        let own = source == Source::Own;
        let told = self.told.get(&source).copied().unwrap_or(0);
        if told >= source.limit() || (!own && self.strangers >= LINES_PER_NODE) {
            self.left_out = self.left_out.saturating_add(1);
            return Decision::LeaveOut;
        }
        self.told.insert(source, told + 1);
        self.strangers += u32::from(!own);
        Decision::Tell { left_out }
    }

    /// Ends the minute if it is over. Returns how many lines were left out in it.
    pub(crate) fn expire(&mut self, now: Instant) -> u64 {
        let over = |since| now.saturating_duration_since(since) >= WINDOW;
        if self.since.is_some_and(over) {
            return std::mem::take(self).left_out;
        }
        0
    }

    /// Returns when the minute ends, if lines were left out in it.
    pub(crate) fn ends(&self) -> Option<Instant> {
        self.since
            .filter(|_| self.left_out > 0)
            .map(|since| since + WINDOW)
    }

    /// Takes the number of lines that were left out so far.
    pub(crate) fn take_left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }
}

/// The throttles of one node.
#[derive(Debug, Default)]
pub(super) struct Reports {
    pub(super) lines: Mutex<Throttle>,
    pub(super) errors: Mutex<Throttle>,
    /// Wakes the task that reports how many were left out.
    pub(super) left_out: Notify,
}

impl Reports {
    /// Decides about one line or event. Returns how many were left out before it, or `None` if it
    /// is left out itself.
    pub(super) fn decide(&self, throttle: &Mutex<Throttle>, source: Source) -> Option<u64> {
        let mut throttle = throttle.lock().unwrap_or_else(PoisonError::into_inner);
        let decision = throttle.decide(source, Instant::now());
        drop(throttle);
        match decision {
            Decision::Tell { left_out } => Some(left_out),
            Decision::LeaveOut => {
                self.left_out.notify_one();
                None
            }
        }
    }

    /// Returns when the next number of left out lines or events is to be reported.
    pub(super) fn ends(&self) -> Option<Instant> {
        let ends = [&self.lines, &self.errors].map(|throttle| {
            let throttle = throttle.lock().unwrap_or_else(PoisonError::into_inner);
            throttle.ends()
        });
        ends.into_iter().flatten().min()
    }

    /// Takes how many lines, and how many error events, were left out.
    pub(super) fn take(&self, take: impl Fn(&mut Throttle) -> u64) -> (u64, u64) {
        let [lines, errors] = [&self.lines, &self.errors]
            .map(|throttle| take(&mut throttle.lock().unwrap_or_else(PoisonError::into_inner)));
        (lines, errors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> Source {
        Source::at(Some(IpAddr::from([192, 0, 2, last])))
    }

    fn told(throttle: &mut Throttle, source: Source, lines: u32, now: Instant) -> u32 {
        let told = |_: &u32| throttle.decide(source, now) != Decision::LeaveOut;
        u32::try_from((0..lines).filter(told).count()).unwrap()
    }

    #[test]
    fn one_source_has_its_lines_in_a_minute_and_others_have_theirs() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        assert_eq!(told(&mut throttle, at(1), 5000, start), LINES_PER_SOURCE);
        assert_eq!(told(&mut throttle, at(2), 50, start), 50);
        let late = start + WINDOW - Duration::from_millis(1);
        assert_eq!(throttle.decide(at(1), late), Decision::LeaveOut);
        assert_eq!(
            throttle.decide(at(2), late),
            Decision::Tell { left_out: 0 },
            "it has some left"
        );
        let left_out = u64::from(5001 - LINES_PER_SOURCE);
        assert_eq!(
            throttle.decide(at(1), start + WINDOW),
            Decision::Tell { left_out },
            "the next minute tells what this one left out"
        );
        assert_eq!(
            throttle.decide(at(1), start + WINDOW),
            Decision::Tell { left_out: 0 },
            "once"
        );
    }

    #[test]
    fn all_sources_share_a_limit_and_this_node_has_its_own() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        let nets = (0..100_000u32).map(|net| {
            let ip = std::net::Ipv6Addr::from(u128::from(net) << 64);
            throttle.decide(Source::at(Some(ip.into())), now)
        });
        let all = nets.filter(|decision| *decision != Decision::LeaveOut);
        assert_eq!(all.count(), LINES_PER_NODE as usize);
        assert!(throttle.told.len() <= LINES_PER_NODE as usize);
        assert_eq!(
            told(&mut throttle, Source::Own, 5000, now),
            LINES_PER_NODE,
            "strangers do not hide what this node has to say of itself"
        );
        assert!(throttle.told.len() <= LINES_PER_NODE as usize + 1);
    }

    #[test]
    fn sources_in_one_network_share_its_limit() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        let of = |last: u128| Source::at(Some(std::net::Ipv6Addr::from((1 << 64) + last).into()));
        assert_eq!(told(&mut throttle, of(1), 100, now), LINES_PER_SOURCE);
        assert_eq!(told(&mut throttle, of(2), 1, now), 0);
        let mapped = Source::at(Some("::ffff:192.0.2.1".parse().unwrap()));
        assert_eq!(mapped, at(1));
    }

    #[test]
    fn a_minute_with_left_out_lines_says_when_it_ends() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        assert_eq!(throttle.ends(), None);
        told(&mut throttle, at(1), LINES_PER_SOURCE, start);
        assert_eq!(throttle.ends(), None, "nothing was left out");
        told(&mut throttle, at(1), 7, start);
        assert_eq!(throttle.ends(), Some(start + WINDOW));
        assert_eq!(throttle.expire(start + WINDOW / 2), 0, "it goes on");
        assert_eq!(throttle.expire(start + WINDOW), 7);
        assert_eq!(throttle.expire(start + WINDOW), 0);
        assert_eq!(throttle.ends(), None);
    }

    #[test]
    fn the_number_left_out_can_be_taken_early() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        told(&mut throttle, at(1), LINES_PER_SOURCE + 3, now);
        assert_eq!(throttle.take_left_out(), 3);
        assert_eq!(throttle.take_left_out(), 0);
        assert_eq!(throttle.decide(at(1), now), Decision::LeaveOut);
    }
}
