//! `/queues/{queue}/dead`: retry or delete many dead ids, after a look at how many that are.

use axum::{extract::State, response::Response};
use maud::html;

use super::{Failed, Form, On, Viewer, actions::no_such_action, layout, words};
use crate::{
    http::{Api, Served, extract::Params},
    queue::{Cursor, DeadVerb, MAX_IDS_PER_CALL, Shown, State as IdState},
    types::MAX_ID_BYTES,
};

/// Pages of 1000 ids that a preview looks at, and an action goes through. What is beyond waits for the next one.
const MAX_PAGES: usize = 50;
/// How many a preview names.
const NAMED: usize = 10;

/// Which of the dead.
struct Filter {
    reason: String,
    prefix: String,
}

/// What a query or a form asks for.
fn wanted(mut params: Params) -> Result<(DeadVerb, Filter), Failed> {
    let verb = read(&params.words("action", 20)?.unwrap_or_default())?;
    let filter = Filter {
        reason: params.words("reason", 100)?.unwrap_or_default(),
        prefix: params.words("prefix", MAX_ID_BYTES)?.unwrap_or_default(),
    };
    params.no_more()?;
    Ok((verb, filter))
}

impl Filter {
    fn fits(&self, row: &Shown) -> bool {
        (self.reason.is_empty() || row.reason.as_deref() == Some(&self.reason))
            && row.id.starts_with(&self.prefix)
    }
}

/// The verb that a form names.
fn read(word: &str) -> Result<DeadVerb, Failed> {
    match word {
        "retry" => Ok(DeadVerb::Retry),
        "delete" => Ok(DeadVerb::Delete),
        _ => Err(no_such_action(word).into()),
    }
}

/// Its word, its title, and what ids are then.
fn told(verb: DeadVerb) -> (&'static str, &'static str, &'static str) {
    match verb {
        DeadVerb::Retry => ("retry", "Retry", "due now"),
        DeadVerb::Delete => ("delete", "Delete", "deleted for good"),
    }
}

/// How many fit, and the first of them.
struct Found {
    count: u64,
    first: Vec<String>,
    more: bool,
}

/// How many it would be, and the question whether to do it.
pub(super) async fn preview(viewer: Viewer, On { served, params }: On) -> Result<Response, Failed> {
    viewer.check_may_act()?;
    let (verb, filter) = wanted(params)?;
    let found = find(&served, &filter).await?;
    let (word, title, become_) = told(verb);
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
    State(api): State<Api>,
    viewer: Viewer,
    On { served, params }: On,
    Form(form): Form,
) -> Result<Response, Failed> {
    viewer.check_may_act()?;
    params.no_more()?;
    let (verb, filter) = wanted(form)?;
    let count = served.queue.apply_to_all_dead(verb, MAX_PAGES, |row| filter.fits(row)).await? as u64;
    let (word, _, become_) = told(verb);
    let queue = served.name();
    tracing::info!(who = viewer.who(), %queue, action = format_args!("{word}_dead"), count, "dashboard");
    let are = if count == 1 { "is" } else { "are" };
    let done = format!("{} {are} {become_}.", words::ids(count));
    Ok(words::see_other(&api.flash.url(&format!("/queues/{queue}"), &[], &done)))
}

async fn find(served: &Served, filter: &Filter) -> crate::Result<Found> {
    let (mut found, mut cursor) = (Found { count: 0, first: Vec::new(), more: false }, None::<Cursor>);
    for _ in 0..MAX_PAGES {
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
