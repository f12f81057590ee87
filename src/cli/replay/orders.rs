//! The orders file: CSV with a header line.

use std::{collections::HashMap, fs::File, path::Path, time::Duration};

use anyhow::Context as _;
use chrono::NaiveDateTime;
use clap::Args;
use csv::{ByteRecord, ReaderBuilder};

use crate::{
    cli::csv_lines,
    error::Invalid,
    types::{DueAt, Id, shortened},
};

/// How times without a zone are written.
const NAIVE: [&str; 2] = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"];

/// The names of the columns that matter.
#[derive(Debug, Args)]
pub(super) struct ColumnNames {
    /// The column that tells when an order was created
    #[arg(long = "created-column", value_name = "NAME", default_value = "order_purchase_timestamp")]
    created: String,
    /// The column that tells when an order was paid
    #[arg(long = "paid-column", value_name = "NAME", default_value = "order_approved_at")]
    paid: String,
    /// The column with the ids
    #[arg(long = "id-column", value_name = "NAME", default_value = "order_id")]
    id: String,
}

#[cfg(test)]
impl ColumnNames {
    pub(super) fn new(created: String, paid: String, id: String) -> Self {
        Self { created, paid, id }
    }
}

/// One order of the past.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) id: Id,
    pub(super) created_at: DueAt,
    /// None if it was never paid. A payment that is dated before the creation counts as made at the creation.
    pub(super) paid_at: Option<DueAt>,
    pub(super) due_at: DueAt,
}

/// All orders in memory: with what the replay adds, some 200 bytes for each.
pub(super) struct OrdersFile {
    pub(super) orders: Vec<Order>,
    /// How many rows could not be read. Each was named on stderr.
    pub(super) unreadable: usize,
}

impl OrdersFile {
    pub(super) fn read(path: &Path, names: &ColumnNames, timeout: Duration) -> anyhow::Result<Self> {
        let cannot = || format!("cannot read {}", path.display());
        let (input, mut line_counter) = csv_lines::tap(File::open(path).with_context(cannot)?);
        // Flexible, because a row of another length is one bad row, and bytes, because a foreign encoding in
        // columns that do not matter is no obstacle.
        let mut reader = ReaderBuilder::new().flexible(true).from_reader(input);
        let header = reader.byte_headers().map_err(csv_lines::explain).with_context(cannot)?;
        let columns = Columns::find(header, names, path)?;

        let mut file = Self { orders: Vec::new(), unreadable: 0 };
        let mut lines = HashMap::new();
        let mut record = ByteRecord::new();
        loop {
            let start = reader.position().byte();
            let read = reader.read_byte_record(&mut record);
            let line = line_counter.line_of(start);
            if !read.map_err(csv_lines::explain).with_context(|| format!("{}, line {line}", cannot()))? {
                break;
            }
            let order = columns.order(&record, timeout).and_then(|order| match lines.get(&order.id) {
                Some(first) => Err(Invalid::new("id", &order.id, format!("stands in line {first} already"))),
                None => Ok(order),
            });
            match order {
                Ok(order) => {
                    lines.insert(order.id.clone(), line);
                    file.orders.push(order);
                }
                Err(cause) => {
                    file.unreadable += 1;
                    eprintln!("overdue: line {line}: {cause}");
                }
            }
        }
        Ok(file)
    }
}

/// Where the header has which column.
struct Columns {
    id: usize,
    created: usize,
    paid: usize,
    count: usize,
}

impl Columns {
    fn find(header: &ByteRecord, names: &ColumnNames, path: &Path) -> Result<Self, Invalid> {
        let header: Vec<_> = header.iter().map(|cell| String::from_utf8_lossy(cell.trim_ascii())).collect();
        let find = |name: &str| {
            header.iter().position(|column| column == name).ok_or_else(|| {
                let columns =
                    if header.is_empty() { "none".to_owned() } else { shortened(&header.join(", "), 400) };
                let why = format!("is not in {}; its columns are {columns}", path.display());
                Invalid::new("column", name, why)
            })
        };
        Ok(Self {
            id: find(&names.id)?,
            created: find(&names.created)?,
            paid: find(&names.paid)?,
            count: header.len(),
        })
    }

    fn order(&self, record: &ByteRecord, timeout: Duration) -> Result<Order, Invalid> {
        if record.len() != self.count {
            let why = format!("cells, and the header {}", self.count);
            return Err(Invalid::new("it has", record.len(), why));
        }
        let id = Id::new(text(&record[self.id])?)?;
        let created_at = time(text(&record[self.created])?)?;
        let paid = text(&record[self.paid])?.trim();
        let paid_at = if paid.is_empty() { None } else { Some(time(paid)?.max(created_at)) };
        let timeout_ms = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
        let due_at = DueAt::from_ms(created_at.as_ms().saturating_add(timeout_ms))?;
        Ok(Order { id, created_at, paid_at, due_at })
    }
}

fn text(cell: &[u8]) -> Result<&str, Invalid> {
    std::str::from_utf8(cell).map_err(|_| Invalid::new("cell", String::from_utf8_lossy(cell), "is not UTF-8"))
}

/// A time without a zone is UTC; all else is read as everywhere.
pub(super) fn time(text: &str) -> Result<DueAt, Invalid> {
    let naive = NAIVE.iter().find_map(|format| NaiveDateTime::parse_from_str(text.trim(), format).ok());
    match naive {
        Some(naive) => naive.and_utc().to_rfc3339().parse(),
        None => text.parse(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_without_a_zone_are_utc_and_round_up() {
        for text in [
            "2026-01-01 00:00:00",
            "2026-01-01T00:00:00",
            " 2026-01-01 00:00:00 ",
            "2025-12-31 23:59:59.9991",
            "2026-01-01T00:00:00Z",
            "2026-01-01T02:00:00+02:00",
            "1767225600000",
        ] {
            assert_eq!(time(text).map(DueAt::as_ms), Ok(1_767_225_600_000), "{text}");
        }
        for text in ["", "tomorrow", "2026-01-01", "2026-13-01 00:00:00", "1970-01-01 00:00:00", "1767225600"]
        {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
