//! What is spread over files is what was put there, and a comparison finds exactly what differs.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::btree_map, option, prelude::*};

use super::{parts::*, *};
use crate::{
    fuzz::{run, text},
    types::Payload,
};

type Side = BTreeMap<String, Option<u8>>;

fn side() -> impl Strategy<Value = Side> {
    btree_map("[a-f]{1,2}", option::weighted(0.9, 0..3u8), 0..30)
}

fn due(step: u8) -> DueAt {
    DueAt::from_ms(DueAt::MIN_MS + i64::from(step)).unwrap()
}

fn entries(side: &Side) -> Vec<Entry> {
    let entry = |(id, step): (&String, &Option<u8>)| Entry {
        id: Id::new(id).unwrap(),
        due_at: step.map(due),
        payload: None,
    };
    side.iter().map(entry).collect()
}

#[test]
fn a_comparison_finds_exactly_what_differs() {
    run(500, (side(), side()), |(truth, held)| {
        let truth: Side = truth.into_iter().map(|(id, step)| (id, Some(step.unwrap_or(0)))).collect();
        let (suspects, extra) = compare(entries(&truth), entries(&held));
        let names = |found: &[Entry]| -> BTreeSet<String> {
            found.iter().map(|entry| entry.id.to_string()).collect()
        };
        let differs = |id: &&String| match held.get(*id) {
            None => true,
            Some(None) => false,
            Some(step) => *step != truth[*id],
        };
        prop_assert_eq!(names(&suspects), truth.keys().filter(differs).cloned().collect());
        let not_in_file = |(id, step): &(&String, &Option<u8>)| step.is_some() && !truth.contains_key(*id);
        prop_assert_eq!(names(&extra), held.iter().filter(not_in_file).map(|(id, _)| id.clone()).collect());
        Ok(())
    });
}

#[test]
fn what_is_spread_comes_back_as_it_was() {
    let entry = (text(2), option::of(0..200u8), option::of(text(3)));
    run(60, proptest::collection::vec(entry, 0..40), |rows| {
        let rows = rows.into_iter().filter_map(|(id, step, payload)| {
            let payload = payload.and_then(|text| Payload::new(text).ok());
            Some(Entry { id: Id::new(id).ok()?, due_at: step.map(due), payload })
        });
        let rows: Vec<Entry> = rows.collect();
        let mut parts = Parts::new().unwrap();
        rows.iter().for_each(|entry| parts.put(entry).unwrap());
        let mut back: Vec<Entry> = parts.read().unwrap().flat_map(Result::unwrap).collect();
        let mut rows = rows;
        let key = |entry: &Entry| format!("{entry:?}");
        rows.sort_by_key(key);
        back.sort_by_key(key);
        prop_assert_eq!(back, rows);
        Ok(())
    });
}
