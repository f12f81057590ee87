//! How the live view looks. Colours only say again what words say; `NO_COLOR` takes them away.

use std::time::Duration;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::Line as Text,
    widgets::{Block, Clear, Paragraph, Row, Sparkline, Table, Wrap},
};

use super::screen::{Ids, Line, Screen};
use crate::{
    duration,
    queue::{Counts, Shown},
    types::{DueAt, ServerTime, shortened},
};

/// As much of an error as a line can show.
const ERROR_CHARS: usize = 200;

const HELP: &str = "\
Up, Down, j, k   choose a queue
Enter, Right     look into it
Esc, Left        back; from the list: quit
p                pause or resume it
r                retry what is dead in it
R                look again now
q                quit

Any key closes this.";

/// Draws it. `colours` is false if `NO_COLOR` is set.
pub(super) fn draw(frame: &mut Frame<'_>, screen: &Screen, colours: bool) {
    let [top, middle, bottom] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)])
            .areas(frame.area());
    let (verdict, colour) = verdict(&screen.lines);
    let style = Style::default().add_modifier(Modifier::BOLD);
    frame.render_widget(Paragraph::new(verdict).style(paint(style, colour, colours)), top);
    match &screen.ids {
        None => list(frame, middle, screen, colours),
        Some(ids) => look_into(frame, middle, screen, ids),
    }
    let (text, colour) = match (screen.asks(), &screen.trouble, &screen.done) {
        (Some(question), _, _) => (question, Color::Yellow),
        (None, Some(trouble), _) => (format!("Redis: {}", shortened(trouble, ERROR_CHARS)), Color::Red),
        (None, None, Some(done)) => (done.clone(), Color::Reset),
        (None, None, None) => {
            ("q quit  Enter look  p pause  r retry dead  ? help".to_owned(), Color::DarkGray)
        }
    };
    frame.render_widget(Paragraph::new(text).style(paint(Style::default(), colour, colours)), bottom);
    if screen.help {
        help(frame);
    }
}

fn paint(style: Style, colour: Color, colours: bool) -> Style {
    if colours { style.fg(colour) } else { style }
}

fn state(counts: Option<&Counts>) -> (&'static str, Color) {
    match counts {
        None => ("?", Color::DarkGray),
        Some(counts) if counts.paused => ("paused", Color::Yellow),
        Some(counts) if counts.overdue() > Counts::LATE => ("late", Color::Red),
        Some(_) => ("on time", Color::Green),
    }
}

fn verdict(lines: &[Line]) -> (String, Color) {
    let late: Vec<&Line> = lines.iter().filter(|line| state(line.counts.as_ref()).0 == "late").collect();
    let oldest = late.iter().filter_map(|line| line.counts.as_ref()).map(Counts::overdue).max();
    if let Some(oldest) = oldest {
        let names: Vec<&str> = late.iter().map(|line| line.queue.as_str()).collect();
        return (format!("LATE by {}: {}", whole(oldest), names.join(", ")), Color::Red);
    }
    match lines.iter().find(|line| state(line.counts.as_ref()).0 == "paused") {
        Some(line) => (format!("{} is paused; all else is on time", line.queue), Color::Yellow),
        None => ("all deadlines fire on time".to_owned(), Color::Green),
    }
}

/// To the second, from a second on.
fn whole(time: Duration) -> String {
    duration::format(if time.as_secs() > 0 { Duration::from_secs(time.as_secs()) } else { time })
}

fn list(frame: &mut Frame<'_>, area: Rect, screen: &Screen, colours: bool) {
    let rows = screen.lines.iter().enumerate().map(|(place, line)| {
        let (word, colour) = state(line.counts.as_ref());
        let mut cells = vec![line.queue.to_string(), word.to_owned()];
        cells.extend(line.counts.as_ref().map(numbers).into_iter().flatten());
        let style = paint(Style::default(), colour, colours);
        let style = if place == screen.selected { style.add_modifier(Modifier::REVERSED) } else { style };
        Row::new(cells).style(style)
    });
    let head = ["queue", "state", "overdue", "due", "scheduled", "next", "in flight", "dead"];
    let widths = [16, 8, 9, 8, 11, 10, 9, 8].map(Constraint::Length);
    let table =
        Table::new(rows, widths).header(Row::new(head).style(Style::default().add_modifier(Modifier::DIM)));
    let [above, below] = Layout::vertical([Constraint::Min(0), Constraint::Length(4)]).areas(area);
    frame.render_widget(table, above);
    if let Some(line) = screen.selected().filter(|_| area.height >= 10) {
        let due: Vec<u64> = line.due.iter().copied().collect();
        let block = Block::bordered().title(format!(" due in {}, look by look ", line.queue));
        frame.render_widget(Sparkline::default().block(block).data(&due), below);
    }
}

fn numbers(counts: &Counts) -> [String; 6] {
    let next = counts.next_due_at.map_or_else(|| "-".to_owned(), |at| from_now(at, counts.now));
    let overdue = counts.overdue();
    [
        if overdue.is_zero() { "-".to_owned() } else { whole(overdue) },
        counts.due.to_string(),
        counts.scheduled.to_string(),
        next,
        counts.leased.to_string(),
        counts.dead.to_string(),
    ]
}

fn from_now(at: DueAt, now: ServerTime) -> String {
    let ahead = now.until(at);
    if ahead.is_zero() { "now".to_owned() } else { format!("in {}", whole(ahead)) }
}

fn look_into(frame: &mut Frame<'_>, area: Rect, screen: &Screen, ids: &Ids) {
    let Some(line) = screen.selected() else { return };
    let now = line.counts.as_ref().map(|counts| counts.now);
    let due = |row: &Shown| {
        let at = row.next_attempt_at.or(row.due_at);
        at.zip(now).map_or_else(|| "-".to_owned(), |(at, now)| from_now(at, now))
    };
    let next: Vec<_> = ids.next.iter().map(|row| describe(row, &due(row))).collect();
    let in_flight =
        ids.in_flight.iter().map(|row| describe(row, &format!("attempt {}", row.attempt))).collect();
    let dead = ids.dead.iter().map(|row| describe(row, row.reason.as_deref().unwrap_or("-"))).collect();
    let areas = Layout::vertical([Constraint::Ratio(1, 3); 3]).split(area);
    for ((title, rows), area) in
        [("next", next), ("in flight", in_flight), ("dead", dead)].into_iter().zip(areas.iter())
    {
        let lines: Vec<Text<'_>> = rows.into_iter().map(Text::from).collect();
        let block = Block::bordered().title(format!(" {}: {title} ", line.queue));
        let none = lines.is_empty().then(|| vec![Text::from("none")]);
        frame.render_widget(Paragraph::new(none.unwrap_or(lines)).block(block), *area);
    }
}

/// What others wrote comes here, so nothing of it may reach the terminal as it is.
fn describe(row: &Shown, what: &str) -> String {
    let error =
        row.error.as_ref().map(|error| format!("  {}", shortened(error, ERROR_CHARS))).unwrap_or_default();
    format!("{}  {}{error}", shortened(&row.id, ERROR_CHARS), shortened(what, ERROR_CHARS))
}

fn help(frame: &mut Frame<'_>) {
    let area = frame.area();
    let (width, height) = (50.min(area.width), 12.min(area.height));
    let place = Rect::new((area.width - width) / 2, (area.height - height) / 2, width, height);
    frame.render_widget(Clear, place);
    let text = Paragraph::new(HELP).wrap(Wrap { trim: false }).block(Block::bordered().title(" keys "));
    frame.render_widget(text, place);
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend, crossterm::event::KeyCode};

    use super::*;
    use crate::cli::stats::screen::tests::{counts, screen};

    fn drawn(screen: &Screen, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, screen, true)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn it_says_in_words_what_is_late_and_what_is_paused() {
        let mut screen = screen();
        let text = drawn(&screen, 80, 24);
        for word in ["LATE by 4m10s: orders", "late", "paused", "12345", "in 5s", "due in orders", "q quit"] {
            assert!(text.contains(word), "{word} is not in\n{text}");
        }
        screen.saw(vec![counts(0, 0, false), counts(0, 0, false)], None);
        assert!(drawn(&screen, 80, 24).contains("all deadlines fire on time"));
        screen.trouble = Some("cannot be\u{1b}[2J reached".to_owned());
        let text = drawn(&screen, 80, 24);
        assert!(text.contains("Redis: cannot be") && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn it_fits_wherever_it_is_drawn() {
        let mut screen = screen();
        for key in [KeyCode::Null, KeyCode::Char('?'), KeyCode::Null, KeyCode::Enter, KeyCode::Char('p')] {
            screen.press(key);
            for (width, height) in [(80, 24), (40, 10), (10, 3), (1, 1), (200, 60)] {
                drawn(&screen, width, height);
            }
        }
    }
}
