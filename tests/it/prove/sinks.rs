//! What in-Redis sinks received, written down as handled at the instant that the script gave it.

use std::collections::HashMap;

use super::{
    clients::named_by,
    history::{Event, History},
};
use crate::support::Rig;

/// Entries of the stream `fired`.
pub(crate) async fn read_stream(rig: &Rig, history: &History) {
    let entries: Vec<(String, HashMap<String, String>)> = rig.on_key("XRANGE", "fired", ("-", "+")).await;
    for (_, fields) in entries {
        let number = |name: &str| fields[name].parse().expect("a number");
        let id = named_by(fields["id"].clone(), fields.get("payload").map(String::as_str));
        fired(history, id, number("due_at"), number("fired_at"));
    }
}

/// Elements of the list `fired`.
pub(crate) async fn read_list(rig: &Rig, history: &History) {
    let elements: Vec<String> = rig.on_key("LRANGE", "fired", (0, -1)).await;
    for element in elements {
        let fields: serde_json::Value = serde_json::from_str(&element).expect("JSON");
        let number = |name: &str| fields[name].as_i64().expect("a number");
        let id = fields["id"].as_str().expect("text").to_owned();
        let id = named_by(id, fields["payload"].as_str());
        fired(history, id, number("due_at"), number("fired_at"));
    }
}

fn fired(history: &History, id: String, due_ms: i64, fired_ms: i64) {
    history.add_at(fired_ms * 1000, Event::Handled { id, due_ms, token: None, done: true });
}
