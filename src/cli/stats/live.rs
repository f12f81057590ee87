//! The live view: looks again and again, and does what keys ask for.

use std::{thread, time::Duration};

use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use super::{
    draw::draw,
    screen::{Deed, Ids, Screen, Step},
};
use crate::{
    error::Result,
    queue::{Counts, DeadVerb, Queue, State},
};

/// Ids that a part of the view of a queue shows.
const ROWS: usize = 20;
/// How often the thread that reads keys sees whether anybody wants them still.
const KEY_STEP: Duration = Duration::from_millis(100);
/// Pages of 1000 dead ids that one key retries. Who has more presses it again.
const MAX_PAGES: usize = 50;

/// Runs until it is quit. The terminal is as it was before, however this ends.
pub(super) async fn run(queues: Vec<Queue>, every: Duration) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let terminal = ratatui::try_init()?;
    let shown = tokio::select! {
        shown = show(terminal, &queues, every) => shown,
        _ = terminate.recv() => Ok(()),
    };
    ratatui::try_restore()?;
    shown
}

async fn show(mut terminal: DefaultTerminal, queues: &[Queue], every: Duration) -> anyhow::Result<()> {
    let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut screen = Screen::new(queues.iter().map(|queue| queue.name().clone()));
    let mut keys = keys();
    let mut looks = interval(every);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let step = tokio::select! {
            _ = looks.tick() => Step::Look,
            key = keys.recv() => match key {
                Some(Some(key)) => screen.press(key),
                Some(None) => Step::Draw,
                // The terminal is gone.
                None => return Ok(()),
            },
        };
        match step {
            Step::Quit => return Ok(()),
            Step::Draw => {}
            Step::Look => look(&mut screen, queues).await,
            Step::Do(deed) => {
                match act(&deed, queues).await {
                    Ok(done) => screen.done = Some(done),
                    Err(cause) => screen.trouble = Some(cause.to_string()),
                }
                if screen.trouble.is_none() {
                    look(&mut screen, queues).await;
                }
            }
        }
        terminal.draw(|frame| draw(frame, &screen, colours))?;
    }
}

/// Keys as they are pressed; none for a change of the size.
fn keys() -> mpsc::Receiver<Option<KeyCode>> {
    let (tell, told) = mpsc::channel(16);
    thread::spawn(move || {
        while !tell.is_closed() {
            match event::poll(KEY_STEP) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(_) => return,
            }
            let key = match event::read() {
                Ok(Event::Key(key)) if key.kind == KeyEventKind::Release => continue,
                // The terminal is in raw mode, where Ctrl-C is a key.
                Ok(Event::Key(key))
                    if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) =>
                {
                    return;
                }
                Ok(Event::Key(key)) => Some(key.code),
                Ok(_) => None,
                Err(_) => return,
            };
            if tell.blocking_send(key).is_err() {
                return;
            }
        }
    });
    told
}

async fn look(screen: &mut Screen, queues: &[Queue]) {
    match look_at(screen, queues).await {
        Ok((counts, ids)) => screen.saw(counts, ids),
        Err(cause) => screen.trouble = Some(cause.to_string()),
    }
}

async fn look_at(screen: &Screen, queues: &[Queue]) -> Result<(Vec<Counts>, Option<Ids>)> {
    let mut counts = Vec::with_capacity(queues.len());
    for queue in queues {
        counts.push(queue.counts().await?);
    }
    let Some(queue) = queues.get(screen.selected).filter(|_| screen.ids.is_some()) else {
        return Ok((counts, None));
    };
    let ids = Ids {
        next: queue.list(State::Scheduled, ROWS, None).await?.rows,
        in_flight: queue.list(State::Leased, ROWS, None).await?.rows,
        dead: queue.list(State::Dead, ROWS, None).await?.rows,
    };
    Ok((counts, Some(ids)))
}

async fn act(deed: &Deed, queues: &[Queue]) -> Result<String> {
    let (Deed::Pause(name, _) | Deed::RetryDead(name)) = deed;
    let Some(queue) = queues.iter().find(|queue| queue.name() == name) else { return Ok(String::new()) };
    Ok(match deed {
        Deed::Pause(_, paused) => {
            queue.pause(*paused).await?;
            format!("{name} is {}.", if *paused { "paused" } else { "resumed" })
        }
        Deed::RetryDead(_) => {
            let count = queue.apply_to_all_dead(DeadVerb::Retry, MAX_PAGES, |_| true).await?;
            format!("{count} of {name} are due now.")
        }
    })
}
