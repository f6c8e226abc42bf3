//! Plots of the rows: a panel for each figure, against the number of nodes.

use std::collections::BTreeMap;

use plotters::prelude::*;

use super::relay::Relay;
use super::report::{Phase, Row};

const PANEL: (u32, u32) = (380, 260);
const COLUMNS: usize = 3;
const FONT: &str = "sans-serif";

/// Why nothing was drawn.
type Error = Box<dyn std::error::Error>;

/// A figure of a scenario.
struct Panel {
    title: &'static str,
    scenario: &'static str,
    figure: fn(&Row) -> Option<f64>,
}

fn last(row: &Row) -> Option<&Phase> {
    row.phases.last()
}

const PANELS: [Panel; 9] = [
    Panel {
        title: "missed within 30 s of killing 80 %, in % of deliveries",
        scenario: "kill-80",
        figure: |row| share_missed(row.phases.first()?),
    },
    Panel {
        title: "missed after these 30 s, in %",
        scenario: "kill-80",
        figure: |row| share_missed(last(row)?),
    },
    Panel {
        title: "copies per delivery, changing senders",
        scenario: "senders",
        figure: |row| last(row)?.copies,
    },
    Panel {
        title: "last hop, mean, changing senders",
        scenario: "senders",
        figure: |row| Some(last(row)?.last_hop.1).filter(|hops| *hops > 0.0),
    },
    Panel {
        title: "time of the last delivery, mean, ms, changing senders",
        scenario: "senders",
        figure: |row| Some(last(row)?.last_ms.1),
    },
    Panel {
        title: "neighbours of a node, mean, changing senders",
        scenario: "senders",
        figure: |row| Some(row.degree.1),
    },
    Panel {
        title: "connections made by a node, storm through one seed",
        scenario: "storm-1",
        figure: |row| Some(row.connections as f64 / row.nodes as f64),
    },
    Panel {
        title: "CPU time of a delivery in a burst, µs",
        scenario: "burst",
        figure: |row| last(row)?.cpu_us,
    },
    Panel {
        title: "memory of a node at rest, KiB",
        scenario: "burst",
        figure: |row| row.node_kib,
    },
];

fn share_missed(phase: &Phase) -> Option<f64> {
    (phase.expected > 0).then(|| 100.0 * phase.missed as f64 / phase.expected as f64)
}

/// Draws the rows as SVG. Of several rows of the same scenario, relay and number of nodes, the last
/// counts.
///
/// # Errors
///
/// Fails if the plot cannot be drawn.
pub fn draw(rows: &[Row]) -> Result<String, Error> {
    let lines = PANELS.len().div_ceil(COLUMNS);
    let (width, height) = (PANEL.0 * COLUMNS as u32, PANEL.1 * lines as u32);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (width, height)).into_drawing_area();
        area.fill(&WHITE)?;
        for (panel, part) in PANELS.iter().zip(area.split_evenly((lines, COLUMNS))) {
            panel.draw(rows, &part)?;
        }
        area.present()?;
    }
    Ok(svg)
}

impl Panel {
    /// The points of each relay: the number of nodes, and the figure.
    fn points(&self, rows: &[Row]) -> BTreeMap<&'static str, (Relay, BTreeMap<usize, f64>)> {
        let mut lines = BTreeMap::new();
        for row in rows.iter().filter(|row| row.scenario == self.scenario) {
            if let Some(value) = (self.figure)(row) {
                let line = lines
                    .entry(row.relay.name())
                    .or_insert_with(|| (row.relay, BTreeMap::new()));
                line.1.insert(row.nodes, value);
            }
        }
        lines
    }

    fn draw(
        &self,
        rows: &[Row],
        area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    ) -> Result<(), Error> {
        let lines = self.points(rows);
        let all = || lines.values().flat_map(|(_, points)| points);
        let least = all().map(|(nodes, _)| *nodes).min().unwrap_or(100) as f64;
        let most = all().map(|(nodes, _)| *nodes).max().unwrap_or(1_000) as f64;
        let top = all().map(|(_, value)| *value).fold(0.0, f64::max);
        let top = if top > 0.0 { top * 1.25 } else { 1.0 };
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, (FONT, 13))
            .margin(10)
            .x_label_area_size(28)
            .y_label_area_size(44)
            .build_cartesian_2d((least * 0.8..most * 1.25).log_scale(), 0.0..top)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_desc("nodes")
            .x_label_formatter(&|nodes| format!("{nodes:.0}"))
            .y_labels(5)
            .label_style((FONT, 10))
            .light_line_style(WHITE)
            .draw()?;
        for (name, (relay, points)) in lines {
            let colour = colour(relay);
            let points: Vec<(f64, f64)> = points
                .into_iter()
                .map(|(nodes, value)| (nodes as f64, value))
                .collect();
            chart.draw_series(
                points
                    .iter()
                    .map(|point| Circle::new(*point, 3, colour.filled())),
            )?;
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
                .label(name)
                .legend(move |(x, y)| {
                    Rectangle::new([(x, y - 4), (x + 12, y + 4)], colour.filled())
                });
        }
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.2))
            .label_font((FONT, 10))
            .draw()?;
        Ok(())
    }
}

/// The colour of a relay: distinct for colour-blind readers.
fn colour(relay: Relay) -> RGBColor {
    match relay {
        Relay::Fixed => RGBColor(90, 90, 90),
        Relay::Overlay => RGBColor(213, 94, 0),
        Relay::Tree => RGBColor(0, 114, 178),
    }
}
