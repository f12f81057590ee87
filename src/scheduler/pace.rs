//! Smaller claims while Redis is busy, so that a herd of schedulers leaves room for its other clients.

use std::time::Duration;

/// A claim that waits longer than this beyond the way to Redis and back has others in front of it. Eight
/// schedulers with full claims of 500, of 1.2 ms each, made a PING beside them wait 9 to 13 ms at p99.
const CROWDED: Duration = Duration::from_millis(4);
/// Below this, claims may grow again.
const FREE: Duration = Duration::from_millis(2);
/// At most an eighth: what a script costs beside its ids is then still below a fifth of it.
const MAX_HALVINGS: u32 = 3;

/// What an id takes Redis, at most, on a slow machine. That much of a claim is no waiting: without it claims of 1000, of 6 ms each
/// there, were taken for a crowd of their own making, and brought a fifth fewer ids a second than claims of 500.
const PER_ID: Duration = Duration::from_micros(6);

/// Learns from how long claims take how large the next one may be.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The shortest claim lately, but for its ids: about the way there and back. It rises slowly, so that a way that has become
    /// longer is not taken for a crowd for ever.
    shortest: Option<Duration>,
    halvings: u32,
}

impl Pace {
    /// How many of `room` ids to claim.
    pub(super) fn limit(&self, room: usize) -> usize {
        (room >> self.halvings).max(room.min(1))
    }

    /// Takes note of how long a claim of so many ids took.
    pub(super) fn note(&mut self, took: Duration, ids: usize) {
        let took = took.saturating_sub(PER_ID * ids as u32);
        let shortest = self.shortest.map_or(took, |shortest| took.min(shortest + shortest / 64));
        self.shortest = Some(shortest);
        let waited = took - shortest;
        if waited > CROWDED {
            self.halvings = (self.halvings + 1).min(MAX_HALVINGS);
        } else if waited < FREE {
            self.halvings = self.halvings.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(claims_ms: &[u64]) -> Pace {
        let mut pace = Pace::default();
        claims_ms.iter().for_each(|ms| pace.note(Duration::from_millis(*ms), 0));
        pace
    }

    #[test]
    fn claims_shrink_in_a_crowd_and_grow_when_it_is_gone() {
        assert_eq!(after(&[1]).limit(500), 500);
        assert_eq!(after(&[1, 10]).limit(500), 250);
        assert_eq!(after(&[1, 10, 10, 10, 10]).limit(500), 62);
        assert_eq!(after(&[1, 10, 10, 4]).limit(500), 125);
        assert_eq!(after(&[1, 10, 10, 1, 1]).limit(500), 500);
    }

    #[test]
    fn many_ids_are_no_crowd() {
        let mut pace = after(&[1, 1]);
        pace.note(Duration::from_millis(7), 1000);
        assert_eq!(pace.limit(1000), 1000);
        pace.note(Duration::from_millis(12), 1000);
        assert_eq!(pace.limit(1000), 500);
    }

    #[test]
    fn a_long_way_is_no_crowd() {
        assert_eq!(after(&[50, 51, 52, 50]).limit(500), 500);
        let mut pace = after(&[1]);
        (0..400).for_each(|_| pace.note(Duration::from_millis(50), 0));
        assert_eq!(pace.limit(500), 500, "it has become longer");
    }

    #[test]
    fn one_id_stays_one_and_none_stays_none() {
        let pace = after(&[1, 10, 10, 10]);
        assert_eq!((pace.limit(1), pace.limit(0)), (1, 0));
    }
}
