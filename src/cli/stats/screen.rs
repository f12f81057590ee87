//! What the live view shows, and what keys do. It knows no terminal and no Redis, so all of it can be tested.

use std::collections::VecDeque;

use ratatui::crossterm::event::KeyCode;

use crate::{
    queue::{Counts, Shown},
    types::QueueName,
};

/// Looks that are remembered for the sparkline.
const REMEMBERED: usize = 60;

/// One queue.
pub(super) struct Line {
    pub(super) queue: QueueName,
    /// None before the first look.
    pub(super) counts: Option<Counts>,
    /// How many were due, look by look.
    pub(super) due: VecDeque<u64>,
}

/// Ids of the queue that is looked into.
#[derive(Default)]
pub(super) struct Ids {
    pub(super) next: Vec<Shown>,
    pub(super) in_flight: Vec<Shown>,
    pub(super) dead: Vec<Shown>,
}

/// What is asked before it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deed {
    Pause(QueueName, bool),
    RetryDead(QueueName),
}

/// What a key asks the loop for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Draw,
    Look,
    Do(Deed),
    Quit,
}

/// The view.
pub(super) struct Screen {
    pub(super) lines: Vec<Line>,
    pub(super) selected: usize,
    /// The ids of the selected queue, while it is looked into.
    pub(super) ids: Option<Ids>,
    pub(super) question: Option<Deed>,
    /// What came of the last deed.
    pub(super) done: Option<String>,
    /// Why the last look failed.
    pub(super) trouble: Option<String>,
    pub(super) help: bool,
}

impl Screen {
    pub(super) fn new(queues: impl Iterator<Item = QueueName>) -> Self {
        let lines = queues.map(|queue| Line { queue, counts: None, due: VecDeque::new() }).collect();
        Self { lines, selected: 0, ids: None, question: None, done: None, trouble: None, help: false }
    }

    pub(super) fn selected(&self) -> Option<&Line> {
        self.lines.get(self.selected)
    }

    /// Takes in a look.
    pub(super) fn saw(&mut self, counts: Vec<Counts>, ids: Option<Ids>) {
        self.trouble = None;
        for (line, counts) in self.lines.iter_mut().zip(counts) {
            if line.due.len() == REMEMBERED {
                line.due.pop_front();
            }
            line.due.push_back(counts.due);
            line.counts = Some(counts);
        }
        if self.ids.is_some() && ids.is_some() {
            self.ids = ids;
        }
    }

    /// What a key does.
    pub(super) fn press(&mut self, key: KeyCode) -> Step {
        if let Some(deed) = self.question.take() {
            return if key == KeyCode::Char('y') { Step::Do(deed) } else { Step::Draw };
        }
        self.done = None;
        if std::mem::take(&mut self.help) {
            return Step::Draw;
        }
        match key {
            KeyCode::Char('q') => return Step::Quit,
            KeyCode::Esc | KeyCode::Backspace | KeyCode::Left if self.ids.is_some() => self.ids = None,
            KeyCode::Esc => return Step::Quit,
            KeyCode::Char('?') => self.help = true,
            KeyCode::Char('R') => return Step::Look,
            KeyCode::Up | KeyCode::Char('k') => return self.select(self.selected.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => return self.select(self.selected + 1),
            KeyCode::Enter | KeyCode::Right if self.selected().is_some() => {
                self.ids = Some(Ids::default());
                return Step::Look;
            }
            KeyCode::Char('p') => self.question = self.pause(),
            KeyCode::Char('r') => self.question = self.retry(),
            _ => {}
        }
        Step::Draw
    }

    fn select(&mut self, place: usize) -> Step {
        self.selected = place.min(self.lines.len().saturating_sub(1));
        if self.ids.is_some() { Step::Look } else { Step::Draw }
    }

    fn pause(&self) -> Option<Deed> {
        let line = self.selected()?;
        Some(Deed::Pause(line.queue.clone(), !line.counts.as_ref()?.paused))
    }

    fn retry(&mut self) -> Option<Deed> {
        let line = self.selected()?;
        if line.counts.as_ref()?.dead == 0 {
            self.done = Some(format!("Nothing is dead in {}.", line.queue));
            return None;
        }
        Some(Deed::RetryDead(line.queue.clone()))
    }

    /// The question, with its numbers.
    pub(super) fn asks(&self) -> Option<String> {
        let dead = self.selected().and_then(|line| line.counts.as_ref()).map_or(0, |counts| counts.dead);
        Some(match self.question.as_ref()? {
            Deed::Pause(queue, true) => format!("Pause {queue}? Nothing is claimed until it is resumed. y/n"),
            Deed::Pause(queue, false) => format!("Resume {queue}? What is due is claimed at once. y/n"),
            Deed::RetryDead(queue) => format!("Retry {dead} dead of {queue}? They are due at once. y/n"),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::types::{DueAt, ServerTime};

    pub(crate) fn counts(overdue_ms: i64, dead: u64, paused: bool) -> Counts {
        let now_ms = 1_767_225_600_000;
        Counts {
            now: ServerTime::from_ms(now_ms),
            scheduled: 12_345,
            due: u64::from(overdue_ms > 0) * 7,
            leased: 3,
            lost_leases: 0,
            dead,
            impossible: 0,
            next_due_at: DueAt::from_ms(now_ms - overdue_ms).ok(),
            paused,
        }
    }

    pub(crate) fn screen() -> Screen {
        let mut screen =
            Screen::new(["orders", "carts"].map(|name| QueueName::new(name).unwrap()).into_iter());
        screen.saw(vec![counts(250_000, 2, false), counts(-5_000, 0, true)], None);
        screen
    }

    #[test]
    fn nothing_is_done_before_it_was_asked_and_confirmed() {
        let mut screen = screen();
        let orders = screen.lines[0].queue.clone();
        assert_eq!(screen.press(KeyCode::Char('p')), Step::Draw);
        assert!(screen.asks().unwrap().starts_with("Pause orders?"));
        assert_eq!(screen.press(KeyCode::Char('n')), Step::Draw);
        assert_eq!(screen.asks(), None);
        screen.press(KeyCode::Char('r'));
        assert!(screen.asks().unwrap().starts_with("Retry 2 dead of orders?"));
        assert_eq!(screen.press(KeyCode::Char('y')), Step::Do(Deed::RetryDead(orders)));
    }

    #[test]
    fn keys_move_in_the_list_and_into_a_queue_and_back() {
        let mut screen = screen();
        for _ in 0..5 {
            screen.press(KeyCode::Down);
        }
        assert_eq!(screen.selected().unwrap().queue.as_str(), "carts");
        screen.press(KeyCode::Char('p'));
        assert!(screen.asks().unwrap().starts_with("Resume carts?"));
        screen.press(KeyCode::Char('n'));
        screen.press(KeyCode::Char('r'));
        assert_eq!((screen.asks(), screen.done.as_deref()), (None, Some("Nothing is dead in carts.")));
        assert_eq!(screen.press(KeyCode::Enter), Step::Look);
        assert!(screen.ids.is_some());
        assert_eq!(screen.press(KeyCode::Esc), Step::Draw);
        assert!(screen.ids.is_none());
        assert_eq!(screen.press(KeyCode::Esc), Step::Quit);
    }

    #[test]
    fn without_a_queue_or_a_look_no_key_does_harm() {
        let mut nothing = Screen::new(std::iter::empty());
        let mut unseen = Screen::new(std::iter::once(QueueName::new("orders").unwrap()));
        for key in ['p', 'r', 'j', 'k', 'R', '?', 'x'].map(KeyCode::Char).into_iter().chain([KeyCode::Enter])
        {
            for screen in [&mut nothing, &mut unseen] {
                assert!(!matches!(screen.press(key), Step::Do(_) | Step::Quit), "{key:?}");
            }
        }
    }

    #[test]
    fn only_so_many_looks_are_remembered() {
        let mut screen = screen();
        (0..200).for_each(|_| screen.saw(vec![counts(1, 0, false), counts(1, 0, false)], None));
        assert_eq!(screen.lines[0].due.len(), REMEMBERED);
    }
}
