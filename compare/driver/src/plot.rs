//! Plots of the results, as SVG.

use std::ops::Range;

use plotters::chart::SeriesAnno;
use plotters::coord::combinators::LogCoord;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::report::amount;
use crate::stats::Summary;
use crate::suite::Outcome;
use crate::system::{self, System};
use crate::workload::{Figure, Plot, Workload};

const SIZE: (u32, u32) = (880, 500);
const FONT: &str = "sans-serif";

/// The reason that a plot could not be drawn.
type Error = Box<dyn std::error::Error>;

/// Returns the file name of a workload's plot.
pub(crate) fn plot_name(workload: &Workload) -> String {
    format!("{}.svg", workload.name)
}

/// Draws the plot of an outcome, if its workload has one and something was measured.
pub(crate) fn draw(outcome: &Outcome) -> Result<Option<String>, Error> {
    let Some(plot) = outcome.workload.plot else {
        return Ok(None);
    };
    let chart = Chart::of(outcome, plot);
    let Some(range) = chart.range() else {
        return Ok(None);
    };
    let mut svg = String::new();
    chart.draw(&mut svg, range)?;
    Ok(Some(svg))
}

/// A plot.
struct Chart {
    title: String,
    /// The label of the horizontal axis.
    below: String,
    /// The label of the vertical axis.
    beside: String,
    figure: Figure,
    plot: Plot,
    /// The groups along the horizontal axis: a name, and the values of each system.
    groups: Vec<(String, Vec<(System, Summary)>)>,
}

impl Chart {
    fn of(outcome: &Outcome, plot: Plot) -> Chart {
        let workload = outcome.workload;
        let shown = match plot {
            Plot::Lines => 1,
            Plot::Bars => workload.measures.len(),
        };
        let mut groups = Vec::new();
        let mut labels = Vec::new();
        for (index, measure) in workload.measures.iter().enumerate().take(shown) {
            labels.push(measure.figure.label());
            for point in &outcome.points {
                let name = match shown {
                    1 => point.value.to_string(),
                    _ => format!("{} {}", point.value, measure.figure.label()),
                };
                let systems = point
                    .systems
                    .iter()
                    .filter_map(|(system, _)| Some((*system, point.summary(*system, index)?)));
                groups.push((name, systems.collect()));
            }
        }
        Chart {
            title: format!("{}: {}", workload.name, workload.meaning),
            below: workload.sweep.of.to_owned(),
            beside: labels.join(", "),
            figure: workload
                .measures
                .first()
                .map_or(Figure::ServerPeak, |measure| measure.figure),
            plot,
            groups,
        }
    }

    /// Returns the decades around all values.
    fn range(&self) -> Option<(f64, f64)> {
        let all = || {
            let summaries = self.groups.iter().flat_map(|(_, systems)| systems);
            summaries.flat_map(|(_, summary)| [summary.min, summary.median, summary.max])
        };
        let positive = || all().filter(|value| *value > 0.0);
        let least = positive().reduce(f64::min)?;
        let most = positive().reduce(f64::max)?;
        Some(decades(least, most))
    }

    fn draw(&self, svg: &mut String, (low, high): (f64, f64)) -> Result<(), Error> {
        let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        // The legend stands in a band on the right.
        let groups = self.groups.len() as f64;
        let right = groups * 1.15 - 0.5;
        let mut chart = ChartBuilder::on(&area)
            .caption(&self.title, (FONT, 15))
            .margin(12)
            .x_label_area_size(48)
            .y_label_area_size(72)
            .build_cartesian_2d(-0.5..right, (low..high).log_scale())?;
        let unit = self.figure.unit();
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(0)
            .y_desc(&self.beside)
            .y_label_formatter(&|value: &f64| amount(*value, unit))
            .label_style((FONT, 12))
            .light_line_style(BLACK.mix(0.05))
            .draw()?;
        let systems = self.systems();
        let bar = 0.8 / systems.len() as f64;
        for (place, system) in systems.iter().enumerate() {
            match self.plot {
                Plot::Lines => self.draw_line(&mut chart, *system, low)?,
                Plot::Bars => {
                    let left = place as f64 * bar - 0.4;
                    self.draw_bars(&mut chart, *system, low, left..left + bar)?;
                }
            }
        }
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .label_font((FONT, 12))
            .draw()?;
        for (group, (name, _)) in self.groups.iter().enumerate() {
            let (x, y) = chart.backend_coord(&(group as f64, low));
            area.draw(&Text::new(name.clone(), (x, y + 8), below(12)))?;
        }
        let (x, y) = chart.backend_coord(&((groups - 1.0) / 2.0, low));
        area.draw(&Text::new(self.below.clone(), (x, y + 28), below(13)))?;
        drop(chart);
        area.present()?;
        Ok(())
    }

    /// Returns the systems that have a value in any group.
    fn systems(&self) -> Vec<System> {
        let has_value = |system: &&System| {
            let mut groups = self.groups.iter();
            groups.any(|(_, systems)| systems.iter().any(|(known, _)| known == *system))
        };
        system::ALL.iter().filter(has_value).copied().collect()
    }

    /// Returns the values of a system, each with the index of its group.
    fn values(&self, system: System) -> impl Iterator<Item = (f64, Summary)> {
        let groups = self.groups.iter().enumerate();
        groups.filter_map(move |(group, (_, systems))| {
            let (_, summary) = systems.iter().find(|(known, _)| *known == system)?;
            (summary.median > 0.0).then_some((group as f64, *summary))
        })
    }

    fn draw_line(&self, chart: &mut Axes<'_, '_>, system: System, low: f64) -> Result<(), Error> {
        let colour = colour(system);
        // A whisker from the minimum to the maximum.
        chart.draw_series(self.values(system).map(|(x, summary)| {
            let ends = [(x, summary.min.max(low)), (x, summary.max)];
            PathElement::new(ends.to_vec(), colour.mix(0.5))
        }))?;
        chart.draw_series(
            self.values(system)
                .map(|(x, summary)| Circle::new((x, summary.median), 4, colour.filled())),
        )?;
        let line = self.values(system).map(|(x, summary)| (x, summary.median));
        let drawn = chart.draw_series(LineSeries::new(line, colour.stroke_width(2)))?;
        label(drawn, system);
        Ok(())
    }

    fn draw_bars(
        &self,
        chart: &mut Axes<'_, '_>,
        system: System,
        low: f64,
        span: Range<f64>,
    ) -> Result<(), Error> {
        let (left, width) = (span.start, span.end - span.start);
        let unit = self.figure.unit();
        chart.draw_series(self.values(system).map(|(x, summary)| {
            let middle = x + left + width / 2.0;
            let style = (FONT, 10)
                .into_font()
                .color(&BLACK)
                .pos(Pos::new(HPos::Center, VPos::Bottom));
            Text::new(
                amount(summary.median, unit),
                (middle, summary.median),
                style,
            )
        }))?;
        let drawn = chart.draw_series(self.values(system).map(|(x, summary)| {
            let left = x + left;
            let corners = [(left, low), (left + width * 0.95, summary.median)];
            Rectangle::new(corners, colour(system).filled())
        }))?;
        label(drawn, system);
        Ok(())
    }
}

/// The coordinates of a plot: groups, and values on a logarithmic axis.
type Coordinates = Cartesian2d<RangedCoordf64, LogCoord<f64>>;
type Axes<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Coordinates>;

/// Adds a system to the legend.
fn label<'a>(drawn: &mut SeriesAnno<'a, SVGBackend<'_>>, system: System) {
    let colour = colour(system);
    drawn
        .label(system.name())
        .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 14, y + 5)], colour.filled()));
}

/// Returns the style of a text that is centred below its position.
fn below(size: i32) -> TextStyle<'static> {
    (FONT, size)
        .into_font()
        .color(&BLACK)
        .pos(Pos::new(HPos::Center, VPos::Top))
}

/// Returns the decades that contain both values, with room above for labels.
fn decades(least: f64, most: f64) -> (f64, f64) {
    let low = 10_f64.powf(least.log10().floor());
    let mut high = 10_f64.powf(most.log10().ceil());
    if high < most * 1.5 {
        high *= 10.0;
    }
    (low, high)
}

/// Returns the colour of a system: the same in all plots, and distinct for colour-blind readers.
fn colour(system: System) -> RGBColor {
    match system {
        System::Hand => RGBColor(90, 90, 90),
        System::Coalescent => RGBColor(213, 94, 0),
        System::Npm => RGBColor(0, 158, 115),
        System::Gossipsub => RGBColor(0, 114, 178),
        System::Iroh => RGBColor(204, 121, 167),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples::outcome;

    #[test]
    fn decades_contain_both_values_with_room() {
        assert_eq!(decades(120.0, 4_000.0), (100.0, 10_000.0));
        assert_eq!(decades(120.0, 9_000.0), (100.0, 100_000.0));
        assert_eq!(decades(1.0, 1.0), (1.0, 10.0));
    }

    #[test]
    fn lines_and_bars_name_their_systems() -> Result<(), Error> {
        let figures: &[f64] = &[2e6, 500.0];
        let systems = [(System::Hand, figures), (System::Coalescent, figures)];
        for name in ["hub-tattletale", "relay-latency"] {
            let svg = draw(&outcome(name, &systems))?.unwrap_or_default();
            assert!(svg.starts_with("<svg"), "{name}: {svg}");
            for text in ["coalescent", "hand", "65536", "size"] {
                assert!(svg.contains(text), "{name} has no {text}");
            }
        }
        Ok(())
    }

    #[test]
    fn an_outcome_without_values_or_plot_is_not_drawn() -> Result<(), Error> {
        assert!(draw(&outcome("hub-tattletale", &[]))?.is_none());
        let figures: &[f64] = &[1.0, 1.0];
        let unplotted = outcome("mesh", &[(System::Hand, figures)]);
        assert!(draw(&unplotted)?.is_none());
        Ok(())
    }
}
