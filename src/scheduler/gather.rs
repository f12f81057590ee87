//! Gathers outcomes by claim. An ack that speaks for a whole claim costs Redis an eighth of what one of each id does, so
//! what comes in quickly is held back until the claim is complete.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use tokio::{sync::mpsc, time::timeout};

use super::{
    keeper::Share,
    settler::{Settlement, Verdict},
};
use crate::types::Token;

/// Where nothing came for so long, handlers take their time: what there is goes out.
const QUIET: Duration = Duration::from_millis(1);
/// No outcome waits longer for the rest of its claim. 1000 ids take 2 to 7 ms to handle where handlers do nothing.
const LONGEST: Duration = Duration::from_millis(10);

/// Outcomes of one claim that Redis does not know yet.
pub(super) struct Part {
    pub(super) share: Share,
    pub(super) verdicts: Vec<Verdict>,
    since: Instant,
}

impl Part {
    fn is_complete(&self) -> bool {
        self.share.is_all_that_is_left(self.verdicts.len())
    }
}

/// What has come in and was not given out. `Load` bounds how much that is.
#[derive(Default)]
pub(super) struct Gathered(HashMap<Token, Part>);

impl Gathered {
    /// Waits until something is to be sent, and takes it out; none once the senders are gone and all is taken.
    pub(super) async fn next(
        &mut self,
        outcomes: &mut mpsc::UnboundedReceiver<Vec<Settlement>>,
    ) -> Option<Vec<Part>> {
        loop {
            while let Ok(more) = outcomes.try_recv() {
                self.add(more);
            }
            let ready = self.take_ready();
            if !ready.is_empty() {
                return Some(ready);
            }
            let quiet = if self.0.is_empty() { Duration::MAX } else { QUIET };
            match timeout(quiet, outcomes.recv()).await {
                Ok(Some(more)) => self.add(more),
                Ok(None) if self.0.is_empty() => return None,
                Ok(None) | Err(_) => return Some(self.0.drain().map(|(_, part)| part).collect()),
            }
        }
    }

    fn add(&mut self, settlements: Vec<Settlement>) {
        for Settlement { verdict, lease, .. } in settlements {
            match self.0.get_mut(&lease.token()) {
                Some(part) => {
                    part.share.join(lease);
                    part.verdicts.push(verdict);
                }
                None => {
                    let token = lease.token();
                    let part = Part { share: lease, verdicts: vec![verdict], since: Instant::now() };
                    self.0.insert(token, part);
                }
            }
        }
    }

    /// Claims that are complete, and what has waited long enough for that.
    fn take_ready(&mut self) -> Vec<Part> {
        let now = Instant::now();
        self.0
            .extract_if(|_, part| part.is_complete() || now.duration_since(part.since) >= LONGEST)
            .map(|(_, part)| part)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{queue::Lease, scheduler::keeper::Leases, types::Id};

    fn claim(token: u64, ids: usize) -> Vec<Settlement> {
        let (leases, token) = (Arc::<Leases>::default(), Token::new(token));
        let mut share = leases.hold(token, ids, Instant::now());
        let settlement = |n| {
            let id = Id::new(format!("order-{n}")).unwrap();
            Settlement { verdict: Verdict::Ack(Lease { id, token }), lease: share.split_one(), timing: None }
        };
        (0..ids).map(settlement).collect()
    }

    fn sizes(parts: Option<Vec<Part>>) -> Vec<usize> {
        parts.into_iter().flatten().map(|part| part.verdicts.len()).collect()
    }

    #[tokio::test]
    async fn a_claim_that_is_complete_goes_out_at_once_and_what_came_with_it_waits_for_its_own() {
        let (outcome, mut outcomes) = mpsc::unbounded_channel();
        let (first, mut second) = (claim(1, 3), claim(2, 2));
        let rest = second.split_off(1);
        outcome.send(first.into_iter().chain(second).collect()).unwrap();
        let mut gathered = Gathered::default();
        assert_eq!(sizes(gathered.next(&mut outcomes).await), [3]);
        outcome.send(rest).unwrap();
        assert_eq!(sizes(gathered.next(&mut outcomes).await), [2]);
    }

    #[tokio::test]
    async fn a_part_goes_out_when_nothing_more_comes() {
        let (outcome, mut outcomes) = mpsc::unbounded_channel();
        let mut some = claim(1, 3);
        let last = some.pop();
        outcome.send(some).unwrap();
        let mut gathered = Gathered::default();
        assert_eq!(sizes(gathered.next(&mut outcomes).await), [2], "while the last one is running");
        drop((outcome, last));
        assert_eq!(sizes(gathered.next(&mut outcomes).await), [0; 0]);
    }

    #[tokio::test]
    async fn what_was_held_back_goes_out_when_the_senders_are_gone() {
        let (outcome, mut outcomes) = mpsc::unbounded_channel();
        outcome.send(claim(1, 3).into_iter().take(1).collect()).unwrap();
        drop(outcome);
        let mut gathered = Gathered::default();
        assert_eq!(sizes(gathered.next(&mut outcomes).await), [1]);
        assert!(gathered.next(&mut outcomes).await.is_none());
    }
}
