//! `overdue export`

use clap::Args;
use serde::Serialize;

use super::{context::Context, output};
use crate::{
    queue::{MAX_IDS_PER_CALL, Shown, State},
    types::{DueAt, Id, Payload, QueueName},
};

/// `overdue export`
#[derive(Debug, Args)]
#[command(after_long_help = "\
One JSON object a line, {\"id\", \"due_at\", \"payload\"}, in the order of the deadlines. The queue goes on working
meanwhile: an id that changes its state during the export may be missed or written twice.")]
pub(super) struct Export {
    /// The queue
    queue: QueueName,
    /// Which ids; may be given several times
    #[arg(long, value_enum, default_values_t = [State::Scheduled, State::Leased])]
    state: Vec<State>,
}

/// The form that `import` reads.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    id: &'a Id,
    due_at: DueAt,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a Payload>,
}

impl Export {
    pub(super) async fn run(&self, context: &Context) -> anyhow::Result<()> {
        let queue = context.existing_queue(&self.queue).await?;
        let (mut count, mut left_out) = (0_u64, 0_u64);
        for state in &self.state {
            let mut cursor = None;
            loop {
                let page = queue.list_with_payloads(*state, MAX_IDS_PER_CALL, cursor.as_ref()).await?;
                for row in &page.rows {
                    match Line::new(row) {
                        Some(line) => {
                            output::line(&serde_json::to_string(&line)?)?;
                            count += 1;
                        }
                        None => left_out += 1,
                    }
                }
                cursor = page.next;
                if cursor.is_none() {
                    break;
                }
            }
        }
        eprintln!("{count} exported");
        if left_out > 0 {
            anyhow::bail!(
                "{left_out} left out: their id or deadline is outside the contract, see `overdue dead list`"
            );
        }
        Ok(())
    }
}

impl<'a> Line<'a> {
    /// None for an entry outside the contract: `import` would refuse it.
    pub(super) fn new(row: &'a Shown) -> Option<Self> {
        Some(Self { id: row.valid_id.as_ref()?, due_at: row.due_at?, payload: row.payload.as_ref() })
    }
}
