//! Files of past orders.

use proptest::{collection::vec, option, prelude::*, sample::select};
use tempfile::TempDir;

use super::{orders::time, *};
use crate::{
    fuzz::{bytes, mutated, readable, run, text},
    types::DueAt,
};

const TIMEOUT: Duration = Duration::from_secs(1800);

/// The columns that are read if none are named.
fn columns() -> ColumnNames {
    let [created, paid, id] =
        ["order_purchase_timestamp", "order_approved_at", "order_id"].map(str::to_owned);
    ColumnNames::new(created, paid, id)
}

/// An instant as the file has it.
fn written(ms: i64) -> String {
    DueAt::from_ms(ms).unwrap().to_string().replace('T', " ").replace('Z', "")
}

#[test]
fn orders_are_what_was_written() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("orders.csv");
    let ms = || 1_500_000_000_000..1_800_000_000_000i64;
    run(60, vec((text(2), ms(), option::of(ms()), "[ -~]{0,5}"), 0..6), |rows| {
        let mut writer = csv::Writer::from_path(&path).unwrap();
        writer.write_record(["other", "order_id", "order_purchase_timestamp", "order_approved_at"]).unwrap();
        for (id, created, paid, other) in &rows {
            let paid = paid.map(written).unwrap_or_default();
            writer.write_record([other, id, &written(*created), &paid]).unwrap();
        }
        writer.flush().unwrap();
        let mut known: Vec<(&String, i64, Option<i64>)> = Vec::new();
        for (id, created, paid, _) in &rows {
            if crate::Id::new(id).is_ok() && !known.iter().any(|(known, ..)| *known == id) {
                known.push((id, *created, paid.map(|paid| paid.max(*created))));
            }
        }
        let file = OrdersFile::read(&path, &columns(), TIMEOUT).unwrap();
        prop_assert_eq!(file.orders.len() + file.unreadable, rows.len());
        prop_assert_eq!(file.orders.len(), known.len());
        for (order, (id, created, paid)) in file.orders.iter().zip(known) {
            prop_assert_eq!(order.id.as_str(), id);
            prop_assert_eq!((order.created_at.as_ms(), order.paid_at.map(DueAt::as_ms)), (created, paid));
            prop_assert_eq!(order.due_at.as_ms() - created, 1_800_000);
        }
        Ok(())
    });
}

#[test]
fn any_file_is_orders_or_an_error() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("orders.csv");
    let header = "order_id,order_purchase_timestamp,order_approved_at\n";
    let rows = vec("[a-z]{1,2},20[0-9]{2}-[01][0-9]-[0-3][0-9] [0-2][0-9]:00:00,(1[0-9]{12})?", 0..5);
    let file = rows.prop_map(move |rows| format!("{header}{}", rows.join("\n")).into_bytes());
    run(120, prop_oneof![mutated(file), bytes(10)], |bytes| {
        std::fs::write(&path, &bytes).unwrap();
        match OrdersFile::read(&path, &columns(), TIMEOUT) {
            Ok(file) => {
                let mut ids: Vec<_> = file.orders.iter().map(|order| &order.id).collect();
                ids.sort();
                ids.dedup();
                prop_assert_eq!(ids.len(), file.orders.len());
                prop_assert!(
                    file.orders.iter().all(|order| order.paid_at.is_none_or(|at| at >= order.created_at))
                );
            }
            Err(error) => readable(&format!("{error:#}"))?,
        }
        Ok(())
    });
}

#[test]
fn a_time_without_a_zone_is_utc_and_any_text_is_one_or_an_error() {
    run(300, (DueAt::MIN_MS..DueAt::MAX_MS, select(&["", "Z", "+00:00"][..])), |(ms, zone)| {
        let text = format!("{}{zone}", written(ms));
        prop_assert_eq!(time(&text).map(DueAt::as_ms), Ok(ms));
        Ok(())
    });
    run(400, prop_oneof![text(3), "[0-9]{1,5}-[0-9]{1,2}-[0-9]{1,2}[ T][0-9:.]{0,14}"], |text| {
        if let Err(error) = time(&text) {
            readable(&error.to_string())?;
        }
        Ok(())
    });
}

#[test]
fn a_speed_is_a_number_above_0() {
    run(300, prop_oneof![any::<f64>().prop_map(|speed| speed.to_string()), text(2)], |text| {
        match factor(&text) {
            Ok(speed) => prop_assert!(speed > 0.0 && speed.is_finite()),
            Err(error) => readable(&error.to_string())?,
        }
        Ok(())
    });
}
