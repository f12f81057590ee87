//! `/queues/{queue}/dead`: retry or delete many dead ids, after a look at how many that are.

use axum::response::Response;
use maud::html;

use super::{Failed, Form, On, Viewer, actions::no_such_action, layout, words};
use crate::{
    http::Served,
    queue::{Cursor, MAX_IDS_PER_CALL, Settled, Shown, State as IdState},
    types::{Id, MAX_ID_BYTES},
};

/// How many ids a preview looks at, and an action goes through: 50 calls. What is beyond waits for the next one.
const MAX_CALLS: usize = 50;
/// How many a preview names.
const NAMED: usize = 10;

/// Which of the dead.
struct Filter {
    reason: String,
    prefix: String,
}

impl Filter {
    fn fits(&self, row: &Shown) -> bool {
        (self.reason.is_empty() || row.reason.as_deref() == Some(&self.reason))
            && row.id.starts_with(&self.prefix)
    }
}

/// What to do.
#[derive(Clone, Copy)]
enum Action {
    Retry,
    Delete,
}

impl Action {
    fn read(word: &str) -> Result<Self, Failed> {
        match word {
            "retry" => Ok(Self::Retry),
            "delete" => Ok(Self::Delete),
            _ => Err(no_such_action(word).into()),
        }
    }

    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Retry => ("retry", "Retry", "due now"),
            Self::Delete => ("delete", "Delete", "deleted for good"),
        }
    }
}

/// How many fit, and the first of them.
struct Found {
    count: u64,
    first: Vec<String>,
    more: bool,
}

/// How many it would be, and the question whether to do it.
pub(super) async fn preview(viewer: Viewer, On { served, mut params }: On) -> Result<Response, Failed> {
    viewer.check_may_act()?;
    served.check_writable()?;
    let action = Action::read(&params.words("action", 20)?.unwrap_or_default())?;
    let filter = Filter {
        reason: params.words("reason", 100)?.unwrap_or_default(),
        prefix: params.words("prefix", MAX_ID_BYTES)?.unwrap_or_default(),
    };
    params.no_more()?;
    let found = find(&served, &filter).await?;
    let (word, title, become_) = action.words();
    let name = served.name();
    let (queue_path, path) = (format!("/queues/{name}"), format!("/queues/{name}/dead"));
    let (count, more) = (words::ids(found.count), if found.more { " at least" } else { "" });
    let body = html! {
        h1 { (title) " dead ids of " (name) }
        form.search method="get" action=(path) {
            label for="reason" { "Reason" } input #reason name="reason" value=(filter.reason) maxlength="100";
            label for="prefix" { "Ids that begin with" } input #prefix name="prefix" value=(filter.prefix) maxlength="256";
            button name="action" value=(word) { "Count again" }
        }
        p.preview { strong { (count) (more) } " will be " (become_) "." }
        @if !found.first.is_empty() {
            ul.ids {
                @for id in &found.first { li { (layout::id_link(name, id)) } }
                @if found.count > found.first.len() as u64 { li { "…" } }
            }
            form.actions method="post" action=(path) {
                input type="hidden" name="reason" value=(filter.reason);
                input type="hidden" name="prefix" value=(filter.prefix);
                button.danger name="action" value=(word) { (title) " " (count) }
                a href=(queue_path) { "Back" }
            }
        }
    };
    let trail = [(name.as_str(), queue_path.as_str()), ("dead", path.as_str())];
    Ok(layout::page(&viewer, &format!("{title} dead ids"), &trail, None, &body))
}

pub(super) async fn run(
    viewer: Viewer,
    On { served, params }: On,
    Form(mut form): Form,
) -> Result<Response, Failed> {
    viewer.check_may_act()?;
    served.check_writable()?;
    params.no_more()?;
    let action = Action::read(&form.words("action", 20)?.unwrap_or_default())?;
    let filter = Filter {
        reason: form.words("reason", 100)?.unwrap_or_default(),
        prefix: form.words("prefix", MAX_ID_BYTES)?.unwrap_or_default(),
    };
    form.no_more()?;
    let count = apply(&served, &filter, action).await?;
    let (word, _, become_) = action.words();
    let queue = served.name();
    tracing::info!(who = viewer.who(), %queue, action = format_args!("{word}_dead"), count, "dashboard");
    let are = if count == 1 { "is" } else { "are" };
    let done = format!("{} {are} {become_}.", words::ids(count));
    Ok(words::see_other(&words::url(&format!("/queues/{queue}"), &[("done", &done)])))
}

async fn find(served: &Served, filter: &Filter) -> crate::Result<Found> {
    let (mut found, mut cursor) = (Found { count: 0, first: Vec::new(), more: false }, None::<Cursor>);
    for _ in 0..MAX_CALLS {
        let keep = |row: &Shown| filter.fits(row);
        let page = served.queue.list_where(IdState::Dead, MAX_IDS_PER_CALL, cursor.as_ref(), keep).await?;
        found.count += page.rows.len() as u64;
        let room = NAMED - found.first.len();
        found.first.extend(page.rows.into_iter().take(room).map(|row| row.id));
        cursor = page.next;
        if cursor.is_none() {
            return Ok(found);
        }
    }
    Ok(Found { more: true, ..found })
}

/// Ids that leave the set do not shift those behind the cursor: it is a place, not a number.
async fn apply(served: &Served, filter: &Filter, action: Action) -> crate::Result<u64> {
    let (mut count, mut cursor) = (0, None::<Cursor>);
    for _ in 0..MAX_CALLS {
        let keep = |row: &Shown| filter.fits(row);
        let page = served.queue.list_where(IdState::Dead, MAX_IDS_PER_CALL, cursor.as_ref(), keep).await?;
        // What is no id within the contract cannot fire, and nothing here can name it.
        let ids: Vec<Id> = page.rows.into_iter().filter_map(|row| row.valid_id).collect();
        let answers = match action {
            Action::Retry => served.queue.retry_dead(&ids).await?,
            Action::Delete => served.queue.delete_dead(&ids).await?,
        };
        count += answers.iter().filter(|answer| **answer == Settled::Done).count() as u64;
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    Ok(count)
}
