//! What is seen from here: clocks, round trips, sentinels, slots.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::{Finding, Level};
use crate::{
    error::{Error, Result, TroubleKind},
    redis::{Info, Redis, SLOTS},
};

const PINGS: usize = 11;
/// A round trip above this is felt: a claim and an ack for each batch.
const SLOW_MS: f64 = 5.0;
/// Clocks further apart than this are wrong rather than late.
const SKEW_MS: f64 = 1000.0;

/// A look at one server.
pub(super) async fn examine(redis: &Redis, info: &Info) -> Result<Vec<Finding>> {
    let mut trips_ms = Vec::with_capacity(PINGS);
    for _ in 0..PINGS {
        let sent = Instant::now();
        redis.ping().await?;
        trips_ms.push(sent.elapsed().as_secs_f64() * 1e3);
    }
    trips_ms.sort_unstable_by(f64::total_cmp);
    let trip_ms = trips_ms[PINGS / 2];
    let sent = Instant::now();
    let theirs_ms = redis.time().await?.as_secs_f64() * 1e3;
    let half_ms = sent.elapsed().as_secs_f64() * 1e3 / 2.0;
    let ours_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64() * 1e3);
    let blocked = info.number("blocked_clients").unwrap_or(0.0);
    Ok(vec![round_trip(trip_ms), clock(ours_ms - half_ms - theirs_ms), clients(info, blocked)])
}

fn round_trip(trip_ms: f64) -> Finding {
    const CHECK: &str = "round_trip";
    let found = format!("{trip_ms:.2} ms");
    if trip_ms <= SLOW_MS {
        return Finding::ok(CHECK, found);
    }
    let consequence =
        "each deadline is late by half of it, and claims of a few ids spend their time on the way";
    Finding::new(Level::Note, CHECK, found, consequence, "run `serve` closer to Redis")
}

/// How far this machine's clock is ahead.
fn clock(ahead_ms: f64) -> Finding {
    const CHECK: &str = "clock";
    let found = format!(
        "this machine is {:.0} ms {} Redis",
        ahead_ms.abs(),
        if ahead_ms < 0.0 { "behind" } else { "ahead of" }
    );
    if ahead_ms.abs() <= SKEW_MS {
        return Finding::ok(CHECK, found);
    }
    let consequence = "deadlines fire by the clock of Redis alone: those that a service here reckons by its own clock are off by as much";
    Finding::new(
        Level::Warning,
        CHECK,
        found,
        consequence,
        "synchronize both clocks (chrony, systemd-timesyncd)",
    )
}

fn clients(info: &Info, blocked: f64) -> Finding {
    const CHECK: &str = "clients";
    let (connected, most) =
        (info.number("connected_clients").unwrap_or(0.0), info.number("maxclients").unwrap_or(0.0));
    let found = format!("{connected} connected, {blocked} blocked, of at most {most}");
    if most == 0.0 || connected < most * 0.8 {
        return Finding::ok(CHECK, found);
    }
    let consequence = "beyond the limit connections are refused, those of schedulers as well";
    Finding::new(Level::Warning, CHECK, found, consequence, "redis-cli CONFIG SET maxclients N")
}

/// Whether all sentinels answer, and name the same master.
pub(super) async fn sentinels(redis: &Redis) -> Vec<Finding> {
    const CHECK: &str = "sentinels";
    let answers = redis.sentinels().await;
    let named: Vec<&String> = answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()).collect();
    let majority = answers.len() / 2 + 1;
    answers
        .iter()
        .map(|(sentinel, answer)| {
            let finding = match answer {
                Err(cause) => Finding::new(
                    if named.len() < majority { Level::Error } else { Level::Warning },
                    CHECK,
                    cause.to_string(),
                    "without a majority of the sentinels there is no failover",
                    "start it, or take it out of `redis.sentinels`",
                ),
                Ok(master) if named.iter().any(|other| *other != master) => Finding::new(
                    Level::Warning,
                    CHECK,
                    format!("names {master}, others do not"),
                    "a failover is under way, or they watch different masters",
                    "redis-cli -p 26379 SENTINEL RESET NAME, once it is over",
                ),
                Ok(master) => Finding::ok(CHECK, format!("names {master}")),
            };
            finding.of(sentinel)
        })
        .collect()
}

/// Whether a cluster serves all slots, by what each master says.
pub(super) async fn slots(redis: &Redis, masters: &[Redis]) -> Result<Vec<Finding>> {
    const CHECK: &str = "slots";
    if !redis.is_cluster() {
        return Ok(Vec::new());
    }
    let mut findings = Vec::new();
    for master in masters {
        let value = match master.run(redis::cmd("CLUSTER").arg("INFO")).await {
            Err(Error::Redis(trouble)) if trouble.kind == TroubleKind::NoPerm => {
                let (consequence, remedy) =
                    ("uncovered slots go unseen", "ACL SETUSER overdue +cluster|info");
                let refused = Finding::new(Level::Warning, CHECK, "refused", consequence, remedy);
                findings.push(refused.of(&master.name()));
                continue;
            }
            answer => answer?,
        };
        let text: String = redis::from_redis_value(value).unwrap_or_default();
        let info = Info::parse(&text);
        let state = info.text("cluster_state").unwrap_or("unknown");
        let covered = info.number("cluster_slots_ok").unwrap_or(0.0);
        let found = format!("{state}, {covered} of {SLOTS} covered");
        let finding = if state == "ok" && covered == f64::from(SLOTS) {
            Finding::ok(CHECK, found)
        } else {
            let consequence = "queues in slots that no node serves stand still, and with cluster-require-full-coverage all do";
            Finding::new(
                Level::Error,
                CHECK,
                found,
                consequence,
                "redis-cli --cluster check HOST:PORT, and --cluster fix",
            )
        };
        findings.push(finding.of(&master.name()));
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_and_ways_are_judged_by_their_size() {
        assert_eq!(clock(-999.0).level, Level::Ok);
        assert_eq!(clock(-1001.0).level, Level::Warning);
        assert!(clock(-1001.0).found.contains("1001 ms behind") && clock(5.0).found.contains("5 ms ahead"));
        assert_eq!((round_trip(0.1).level, round_trip(9.0).level), (Level::Ok, Level::Note));
    }
}
