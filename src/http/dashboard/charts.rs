//! Charts as SVG. They have no style of their own: classes say what is what, and the numbers stand beside them as text.

use maud::{Markup, html};

use crate::scheduler::Minute;

const HEIGHT: f64 = 40.0;
/// A bar of something is seen, however small its share.
const LEAST: f64 = 1.5;

/// Bars of equal width. Each has a title that tells its number.
pub(super) fn bars(counts: &[u64], label: &str, title: impl Fn(usize, u64) -> String) -> Markup {
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let height = |count: u64| if count == 0 { 0.0 } else { (count as f64 / most as f64 * HEIGHT).max(LEAST) };
    let width = counts.len() * 5;
    html! {
        svg.bars viewBox=(format!("0 0 {width} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(label) {
            @for (place, count) in counts.iter().enumerate() {
                rect x=(place * 5) y=(format!("{:.1}", HEIGHT - height(*count))) width="4"
                    height=(format!("{:.1}", height(*count))) { title { (title(place, *count)) } }
            }
        }
    }
}

/// What was fired in the last hour, and what failed of it.
pub(super) fn last_hour(hour: &[Minute]) -> Markup {
    let fired: Vec<u64> = hour.iter().map(|minute| minute.fired).collect();
    let failed: u64 = hour.iter().map(|minute| minute.failed).sum();
    let total: u64 = fired.iter().sum();
    let label = format!("Last hour, by minutes: {total} fired, {failed} attempts failed");
    let minutes = fired.len();
    bars(&fired, &label, |place, count| match minutes - 1 - place {
        0 => format!("this minute: {count} fired"),
        ago => format!("{ago} min ago: {count} fired"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_high_as_their_share_and_never_too_small_to_see() {
        let chart = bars(&[0, 1, 1000, 500], "all", |place, count| format!("{place}: {count}")).into_string();
        for part in [
            r#"height="0.0""#,
            r#"height="1.5""#,
            r#"height="40.0""#,
            r#"height="20.0""#,
            "<title>3: 500</title>",
        ] {
            assert!(chart.contains(part), "{part} in {chart}");
        }
        assert!(bars(&[0, 0], "none", |_, _| String::new()).into_string().contains("viewBox=\"0 0 10 40\""));
    }
}
