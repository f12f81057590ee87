//! A measured figure: what it is of, its values, and what it stands beside.

use serde::{Serialize, Serializer};

use super::stats::Stats;
use crate::cli::output::Row;

/// What a value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    IdsPerSecond,
    CallsPerSecond,
    Milliseconds,
    MicrosecondsPerId,
    BytesPerId,
    Mebibytes,
    PercentOfACore,
}

impl Unit {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::IdsPerSecond => "ids/s",
            Self::CallsPerSecond => "calls/s",
            Self::Milliseconds => "ms",
            Self::MicrosecondsPerId => "µs/id",
            Self::BytesPerId => "bytes/id",
            Self::Mebibytes => "MiB",
            Self::PercentOfACore => "% of a core",
        }
    }

    /// For names of files.
    pub(super) fn slug(self) -> &'static str {
        match self {
            Self::IdsPerSecond => "rate",
            Self::CallsPerSecond => "calls",
            Self::Milliseconds => "ms",
            Self::MicrosecondsPerId => "cost",
            Self::BytesPerId => "bytes",
            Self::Mebibytes => "rss",
            Self::PercentOfACore => "cpu",
        }
    }
}

impl Serialize for Unit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

/// One figure, of a value in each run.
#[derive(Debug, Serialize)]
pub(super) struct Figure {
    pub(super) measure: &'static str,
    pub(super) case: &'static str,
    /// What the case was run with: batch size, rate, and so on.
    #[serde(serialize_with = "as_map")]
    pub(super) settings: Vec<(&'static str, u64)>,
    pub(super) unit: Unit,
    #[serde(flatten)]
    pub(super) stats: Stats,
    pub(super) values: Vec<f64>,
    pub(super) beside: Vec<Beside>,
}

/// What was measured right before or after it in each run.
#[derive(Debug, Serialize)]
pub(super) struct Beside {
    pub(super) case: &'static str,
    #[serde(flatten)]
    pub(super) stats: Stats,
    pub(super) values: Vec<f64>,
    /// Of the figure to this.
    pub(super) ratio: Stats,
}

impl Figure {
    /// From its values, one for each run.
    pub(super) fn new(measure: &'static str, case: &'static str, unit: Unit, values: Vec<f64>) -> Self {
        let stats = Stats::of(&values);
        Self { measure, case, settings: Vec::new(), unit, stats, values, beside: Vec::new() }
    }

    /// The same, run with this.
    pub(super) fn with(mut self, name: &'static str, value: u64) -> Self {
        self.settings.push((name, value));
        self
    }

    /// The same beside another, whose values are of the same runs.
    pub(super) fn beside(mut self, case: &'static str, values: Vec<f64>) -> Self {
        let ratio = Stats::of_ratios(&self.values, &values);
        self.beside.push(Beside { case, stats: Stats::of(&values), values, ratio });
        self
    }

    /// The case and what it was run with.
    pub(super) fn label(&self) -> String {
        let settings = self.settings.iter().map(|(name, value)| format!(" {name}={value}"));
        std::iter::once(self.case.to_owned()).chain(settings).collect()
    }
}

impl Row for Figure {
    const COLUMNS: &'static [&'static str] =
        &["measure", "case", "unit", "median", "min", "max", "beside", "ratio", "min", "max"];

    fn cells(&self) -> Vec<String> {
        let Stats { median, min, max } = self.stats;
        // A line for each of those it stands beside.
        let lines = |text: &dyn Fn(&Beside) -> String| -> String {
            self.beside.iter().map(text).collect::<Vec<_>>().join("\n")
        };
        vec![
            self.measure.to_owned(),
            self.label(),
            self.unit.word().to_owned(),
            number(median),
            number(min),
            number(max),
            lines(&|beside| format!("{} {}", beside.case, number(beside.stats.median))),
            lines(&|beside| format!("{:.2}", beside.ratio.median)),
            lines(&|beside| format!("{:.2}", beside.ratio.min)),
            lines(&|beside| format!("{:.2}", beside.ratio.max)),
        ]
    }
}

/// With as many digits as mean something.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn as_map<S: Serializer>(settings: &[(&'static str, u64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(settings.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_the_values_the_settings_and_the_ratio() {
        let figure = Figure::new("fire", "stream", Unit::IdsPerSecond, vec![80.0, 90.0, 100.0])
            .with("batch_size", 500)
            .beside("bare_loop", vec![100.0; 3]);
        let json = serde_json::to_value(&figure).unwrap();
        let stats = |median, min, max| serde_json::json!({ "median": median, "min": min, "max": max });
        assert_eq!(json["settings"], serde_json::json!({ "batch_size": 500 }));
        assert_eq!((&json["unit"], &json["median"]), (&"ids/s".into(), &90.0.into()));
        assert_eq!(json["beside"][0]["ratio"], stats(0.9, 0.8, 1.0));
        assert_eq!(figure.label(), "stream batch_size=500");
        assert_eq!(figure.cells().len(), Figure::COLUMNS.len());
    }

    #[test]
    fn numbers_have_three_digits_or_are_whole() {
        let texts = [312_345.6, 42.25, 1.234, 0.0129].map(number);
        assert_eq!(texts, ["312346", "42.2", "1.23", "0.013"]);
    }
}
