//! Tells the `metrics` facade what an overlay counts, if the feature `metrics` is enabled.

use super::stats::OverlayStats;

/// The metric handles of one overlay, and what they were told.
#[derive(Debug)]
pub(crate) struct Meter {
    #[cfg(feature = "metrics")]
    handles: handles::Handles,
    #[cfg(feature = "metrics")]
    told: OverlayStats,
}

impl Meter {
    /// Registers the metrics, with the recorder that is installed now.
    pub(crate) fn new() -> Self {
        Self {
            #[cfg(feature = "metrics")]
            handles: handles::Handles::new(),
            #[cfg(feature = "metrics")]
            told: OverlayStats::default(),
        }
    }

    /// Tells what has changed since the last call.
    pub(crate) fn tell(&mut self, now: &OverlayStats) {
        #[cfg(feature = "metrics")]
        {
            self.handles.tell(&self.told, now);
            self.told = *now;
        }
        #[cfg(not(feature = "metrics"))]
        let _ = now;
    }
}

#[cfg(feature = "metrics")]
impl Drop for Meter {
    fn drop(&mut self) {
        let gone = OverlayStats {
            neighbours: 0,
            passive: 0,
            connections: 0,
            ..self.told
        };
        self.tell(&gone);
    }
}

#[cfg(feature = "metrics")]
mod handles {
    use ::metrics::{Counter, Gauge, Unit, counter, describe_counter, describe_gauge, gauge};

    use super::OverlayStats;

    #[derive(Debug)]
    pub(super) struct Handles {
        neighbours: Gauge,
        passive: Gauge,
        connections: Gauge,
        rounds: Counter,
        joins: Counter,
        dialled: Counter,
        failed: Counter,
        faults: Counter,
    }

    const REFUSED: &str = "coalescent_overlay_refused_total";

    impl Handles {
        pub(super) fn new() -> Self {
            let level = |name: &'static str, text: &'static str| {
                describe_gauge!(name, Unit::Count, text);
                gauge!(name)
            };
            let count = |name: &'static str, text: &'static str| {
                describe_counter!(name, Unit::Count, text);
                counter!(name)
            };
            describe_counter!(REFUSED, Unit::Count, "Messages that were not heeded");
            for (reason, _) in OverlayStats::default().refused_by_reason() {
                counter!(REFUSED, "reason" => reason).increment(0);
            }
            Self {
                neighbours: level("coalescent_overlay_neighbours", "Neighbours in the mesh"),
                passive: level(
                    "coalescent_overlay_passive",
                    "Others that are remembered, to be asked when a neighbour is lost",
                ),
                connections: level(
                    "coalescent_overlay_connections",
                    "Nodes of the overlay that are connected, contacts among them",
                ),
                rounds: count(
                    "coalescent_overlay_rounds_total",
                    "Walks on which views are exchanged, begun here",
                ),
                joins: count("coalescent_overlay_joins_total", "Joins sent"),
                dialled: count("coalescent_overlay_dialled_total", "Contacts dialled"),
                failed: count("coalescent_overlay_failed_total", "Contacts not met"),
                faults: count(
                    "coalescent_overlay_faults_total",
                    "Messages that no honest node sends",
                ),
            }
        }

        pub(super) fn tell(&self, then: &OverlayStats, now: &OverlayStats) {
            let levels = [
                (&self.neighbours, then.neighbours, now.neighbours),
                (&self.passive, then.passive, now.passive),
                (&self.connections, then.connections, now.connections),
            ];
            for (gauge, then, now) in levels {
                if then != now {
                    gauge.increment(now as f64 - then as f64);
                }
            }
            let counts = [
                (&self.rounds, then.rounds, now.rounds),
                (&self.joins, then.joins, now.joins),
                (&self.dialled, then.dialled, now.dialled),
                (&self.failed, then.failed, now.failed),
                (&self.faults, then.faults, now.faults),
            ];
            for (counter, then, now) in counts {
                if then < now {
                    counter.increment(now - then);
                }
            }
            let refused = then.refused_by_reason().zip(now.refused_by_reason());
            for ((reason, then), (_, now)) in refused {
                if then < now {
                    // Rare enough to look the counter up each time.
                    counter!(REFUSED, "reason" => reason).increment(now - then);
                }
            }
        }
    }
}
