//! Charts as SVG: a bar for each figure to its median, and below it those that it stands beside.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::Context as _;

use super::{
    figure::{Figure, Unit, number},
    stats::Stats,
};

/// In pixels.
const LABEL_WIDTH: f64 = 330.0;
const BAR_WIDTH: f64 = 440.0;
const VALUE_WIDTH: f64 = 190.0;
const MARGIN: f64 = 20.0;
const ROW: f64 = 20.0;
const BAR: f64 = 13.0;
/// Between figures.
const GAP: f64 = 8.0;
const HEAD: f64 = 52.0;
const FOOT: f64 = 30.0;
const OWN: &str = "#2563eb";
const BARE: &str = "#9ca3af";
const LINE: &str = "#111827";

/// Writes a file for each measure and unit: `fire-rate.svg`.
pub(super) fn write(dir: &Path, figures: &[Figure], footer: &str) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let mut kinds: Vec<(&str, Unit)> = Vec::new();
    for figure in figures {
        if !kinds.contains(&(figure.measure, figure.unit)) {
            kinds.push((figure.measure, figure.unit));
        }
    }
    for (measure, unit) in kinds {
        let of_kind: Vec<&Figure> =
            figures.iter().filter(|figure| (figure.measure, figure.unit) == (measure, unit)).collect();
        let path = dir.join(format!("{measure}-{}.svg", unit.slug()));
        let svg = draw(measure, unit, &of_kind, footer);
        fs::write(&path, svg).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// A bar, with what stands left and right of it.
struct Bar {
    label: String,
    value: String,
    stats: Stats,
    color: &'static str,
    /// True for the first of a figure.
    is_head: bool,
}

fn bars(figure: &Figure) -> Vec<Bar> {
    let value = number(figure.stats.median);
    let mut bars = vec![Bar { label: figure.label(), value, stats: figure.stats, color: OWN, is_head: true }];
    for beside in &figure.beside {
        let value = format!("{}  (ratio {:.2})", number(beside.stats.median), beside.ratio.median);
        let label = beside.case.to_owned();
        bars.push(Bar { label, value, stats: beside.stats, color: BARE, is_head: false });
    }
    bars
}

/// From values to pixels: linear from zero, or logarithmic where values differ by powers of ten.
struct Scale {
    low: f64,
    high: f64,
    is_log: bool,
}

impl Scale {
    fn of(unit: Unit, bars: &[Bar]) -> Self {
        let values = bars.iter().flat_map(|bar| [bar.stats.min, bar.stats.max]);
        let high = values.clone().fold(0.0, f64::max).max(f64::MIN_POSITIVE);
        if unit == Unit::Milliseconds {
            let least = values.filter(|value| *value > 0.0).fold(high, f64::min);
            // Whole decades, so that the length of a bar can be read.
            let (low, high) = (10f64.powf(least.log10().floor()), 10f64.powf(high.log10().ceil()));
            return Self { low, high: high.max(low * 10.0), is_log: true };
        }
        Self { low: 0.0, high, is_log: false }
    }

    fn x(&self, value: f64) -> f64 {
        let share = if self.is_log {
            (value.max(self.low) / self.low).log10() / (self.high / self.low).log10()
        } else {
            value / self.high
        };
        share.clamp(0.0, 1.0) * BAR_WIDTH
    }
}

fn draw(measure: &str, unit: Unit, figures: &[&Figure], footer: &str) -> String {
    let bars: Vec<Bar> = figures.iter().flat_map(|figure| bars(figure)).collect();
    let scale = Scale::of(unit, &bars);
    let gaps = bars.iter().filter(|bar| bar.is_head).count() as f64 * GAP;
    let (width, height) = (
        MARGIN + LABEL_WIDTH + BAR_WIDTH + VALUE_WIDTH + MARGIN,
        HEAD + bars.len() as f64 * ROW + gaps + FOOT,
    );
    let runs = figures.iter().map(|figure| figure.values.len()).max().unwrap_or(0);
    let kind = if scale.is_log { ", logarithmic" } else { "" };
    let title = format!("{measure}: {}{kind}", unit.word());

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"{LINE}\">\n\
         <title>{}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
        escaped(&title)
    );
    text(&mut svg, MARGIN, 24.0, "start", "font-weight=\"bold\" font-size=\"16\"", &title);
    let values = match runs {
        1 => "One run.".to_owned(),
        _ => format!("Median of {runs} runs; the line goes from the least to the greatest."),
    };
    let legend = format!("Blue: overdue. Grey: what it stands beside. {values}");
    text(&mut svg, MARGIN, 42.0, "start", "fill=\"#4b5563\"", &legend);
    let mut y = HEAD;
    for bar in &bars {
        if bar.is_head {
            y += GAP;
        }
        draw_bar(&mut svg, bar, &scale, y);
        y += ROW;
    }
    text(&mut svg, MARGIN, height - 10.0, "start", "fill=\"#4b5563\" font-size=\"11\"", footer);
    svg.push_str("</svg>\n");
    svg
}

fn draw_bar(svg: &mut String, bar: &Bar, scale: &Scale, y: f64) {
    let (left, middle) = (MARGIN + LABEL_WIDTH, y + BAR / 2.0);
    let style = if bar.is_head { "" } else { "fill=\"#4b5563\"" };
    text(svg, left - 8.0, y + BAR - 2.0, "end", style, &bar.label);
    let [median, min, max] = [bar.stats.median, bar.stats.min, bar.stats.max].map(|value| scale.x(value));
    // Never nothing: a bar that is there can be seen.
    let length = median.max(1.0);
    let _ = writeln!(
        svg,
        "<rect x=\"{left}\" y=\"{y}\" width=\"{length:.1}\" height=\"{BAR}\" fill=\"{}\"/>\n\
         <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle}\" y2=\"{middle}\" stroke=\"{LINE}\"/>",
        bar.color,
        left + min,
        left + max
    );
    text(svg, left + max.max(length) + 8.0, y + BAR - 2.0, "start", style, &bar.value);
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, style: &str, text: &str) {
    let text = escaped(text);
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" {style}>{text}</text>");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure() -> Figure {
        Figure::new("fire", "in_process", Unit::IdsPerSecond, vec![50.0])
            .with("batch_size", 500)
            .beside("bare_loop", vec![100.0])
    }

    #[test]
    fn bars_are_as_long_as_their_values() {
        let svg = draw("fire", Unit::IdsPerSecond, &[&figure()], "a < b & c");
        for part in
            ["width=\"220.0\"", "width=\"440.0\"", "(ratio 0.50)", "a &lt; b &amp; c", "batch_size=500"]
        {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    }

    #[test]
    fn latencies_are_drawn_by_decades() {
        let figure = Figure::new("lateness", "p99", Unit::Milliseconds, vec![0.5, 5.0, 50.0]);
        let scale = Scale::of(Unit::Milliseconds, &bars(&figure));
        assert_eq!((scale.low, scale.high), (0.1, 100.0));
        assert!((scale.x(1.0) - BAR_WIDTH / 3.0).abs() < 0.01);
    }

    #[test]
    fn there_is_a_file_for_each_measure_and_unit() {
        let dir = tempfile::tempdir().unwrap();
        let idle = Figure::new("idle", "calls", Unit::CallsPerSecond, vec![10.0]);
        write(&dir.path().join("charts"), &[figure(), idle, figure()], "").unwrap();
        let mut names: Vec<_> = fs::read_dir(dir.path().join("charts"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["fire-rate.svg", "idle-calls.svg"]);
    }
}
