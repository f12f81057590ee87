//! What a server says of itself.

use super::{Allowed, Finding, Level};
use crate::redis::Info;

/// The check that decides whether to serve.
pub(super) const EVICTION: &str = "eviction";
pub(super) const ROLE: &str = "role";

/// Below this share of free memory, registrations will soon be refused.
const LITTLE_HEADROOM: f64 = 0.2;

pub(super) fn examine(info: &Info, allowed: Allowed) -> Vec<Finding> {
    let mut findings =
        vec![version(info), role(info), loading(info), eviction(info, allowed), memory(info), replicas(info)];
    findings.extend(persistence(info));
    findings
}

fn text<'a>(info: &'a Info, name: &str) -> &'a str {
    info.text(name).unwrap_or("")
}

/// Major and minor number.
fn numbers(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

fn version(info: &Info) -> Finding {
    const CHECK: &str = "version";
    let redis = text(info, "redis_version");
    let found = match info.text("valkey_version") {
        Some(valkey) => format!("Valkey {valkey}"),
        None if redis.is_empty() => "unknown".to_owned(),
        None => format!("Redis {redis}"),
    };
    if redis.is_empty() {
        let consequence = "this server is neither Redis nor Valkey, or hides its version: nobody has shown that overdue works on it";
        return Finding::new(Level::Warning, CHECK, found, consequence, "use Redis 6.2 or later, or Valkey");
    }
    if numbers(redis) < (6, 2) {
        let consequence = "commands that overdue needs are missing: nothing works";
        return Finding::new(
            Level::Error,
            CHECK,
            found,
            consequence,
            "upgrade to Redis 6.2 or later, or Valkey",
        );
    }
    if numbers(redis) < (7, 2) {
        let consequence = "writes cannot be waited for until they are on disk: durability level `fsynced` needs Redis 7.2 or Valkey";
        return Finding::new(Level::Note, CHECK, found, consequence, "");
    }
    Finding::ok(CHECK, found)
}

fn role(info: &Info) -> Finding {
    match text(info, "role") {
        "master" => Finding::ok(ROLE, "master"),
        role => Finding::new(
            Level::Error,
            ROLE,
            format!("{role} of {}:{}", text(info, "master_host"), text(info, "master_port")),
            "it takes no writes: nothing can be registered, and nothing fires",
            "point `redis.url` at the master, or name the sentinels in `redis.sentinels`",
        ),
    }
}

fn loading(info: &Info) -> Finding {
    const CHECK: &str = "loading";
    if text(info, "loading") != "1" {
        return Finding::ok(CHECK, "no");
    }
    let eta = text(info, "loading_eta_seconds");
    Finding::new(
        Level::Warning,
        CHECK,
        format!("{eta} s to go"),
        "calls are refused until it is done",
        "wait",
    )
}

pub(super) fn eviction(info: &Info, allowed: Allowed) -> Finding {
    let policy = text(info, "maxmemory_policy");
    if policy == "noeviction" {
        return Finding::ok(EVICTION, policy);
    }
    if policy.is_empty() {
        let consequence = "if it evicts keys, deadlines are lost without a word";
        let remedy = "ask your provider that the policy is noeviction";
        return Finding::new(Level::Warning, EVICTION, "this server does not tell", consequence, remedy);
    }
    let level = if allowed.eviction { Level::Warning } else { Level::Error };
    Finding::new(
        level,
        EVICTION,
        policy,
        "when memory is short Redis deletes whole queues without a word, volatile policies locks and settled orders",
        "redis-cli CONFIG SET maxmemory-policy noeviction (and in redis.conf); or redis.allow_eviction = true, if losing deadlines is fine",
    )
}

fn memory(info: &Info) -> Finding {
    const CHECK: &str = "memory";
    let (used, most) = (info.number("used_memory").unwrap_or(0.0), info.number("maxmemory").unwrap_or(0.0));
    let mib = |bytes: f64| format!("{:.0} MiB", bytes / f64::from(1 << 20));
    if most == 0.0 {
        let system = info.number("total_system_memory").unwrap_or(0.0);
        let found = format!("{} used, no maxmemory, {} in the machine", mib(used), mib(system));
        let consequence = "a machine that runs out of memory kills Redis instead of refusing registrations";
        let remedy = "redis-cli CONFIG SET maxmemory BYTES, some way below what the machine has";
        return Finding::new(Level::Note, CHECK, found, consequence, remedy);
    }
    let found = format!("{} of {} used", mib(used), mib(most));
    if used > most * (1.0 - LITTLE_HEADROOM) {
        let consequence = "when it is full registrations are refused, while what is there goes on firing";
        return Finding::new(Level::Warning, CHECK, found, consequence, "raise maxmemory, or free memory");
    }
    Finding::ok(CHECK, found)
}

fn replicas(info: &Info) -> Finding {
    const CHECK: &str = "replicas";
    let count = info.number("connected_slaves").unwrap_or(0.0);
    if count == 0.0 {
        let consequence = "when this machine is lost, so is what its disk does not bring back; durability level `replicated` cannot be reached";
        return Finding::new(
            Level::Note,
            CHECK,
            "none",
            consequence,
            "redis-cli -h REPLICA REPLICAOF HOST PORT",
        );
    }
    let mut lag = (0..count as usize).filter_map(|number| {
        let line = info.text(&format!("slave{number}"))?;
        let state = line.split(',').find_map(|part| part.strip_prefix("state="))?;
        (state != "online").then(|| line.to_owned())
    });
    match lag.next() {
        Some(line) => Finding::new(
            Level::Warning,
            CHECK,
            format!("{count}, of which one is not online: {line}"),
            "a failover to it loses what it lacks",
            "look at the log of that replica",
        ),
        None => Finding::ok(CHECK, format!("{count}, all online")),
    }
}

/// What a restart brings back.
fn persistence(info: &Info) -> Vec<Finding> {
    const CHECK: &str = "persistence";
    let mut findings = Vec::new();
    let since_save = |info: &Info| {
        let changes = info.number("rdb_changes_since_last_save").unwrap_or(0.0);
        format!("{changes} changes since the last snapshot")
    };
    let aof = text(info, "aof_enabled") == "1";
    if aof {
        findings.push(Finding::new(
            Level::Note,
            CHECK,
            "append-only file",
            "with appendfsync everysec, the default, a power loss takes about the last second; with always nothing",
            "",
        ));
    } else {
        findings.push(Finding::new(
            Level::Warning,
            CHECK,
            format!("no append-only file; {}", since_save(info)),
            "a restart loses all that was registered, moved, cancelled or acked since the last snapshot, if there is one",
            "redis-cli CONFIG SET appendonly yes (and in redis.conf)",
        ));
    }
    let failed = [
        (
            aof && text(info, "aof_last_write_status") == "err",
            "the last write to the append-only file failed",
        ),
        (text(info, "aof_last_bgrewrite_status") == "err", "the last rewrite of the append-only file failed"),
        (text(info, "rdb_last_bgsave_status") == "err", "the last snapshot failed"),
    ];
    for (_, what) in failed.iter().filter(|(failed, _)| *failed) {
        findings.push(Finding::new(
            Level::Error,
            CHECK,
            *what,
            "Redis refuses writes (MISCONF), or will lose what it cannot write",
            "make room on its disk, and look at its log",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEALTHY: &str = "# Server\r\nredis_version:7.4.1\r\nrole:master\r\nloading:0\r\nmaxmemory_policy:noeviction\r\n\
        used_memory:1048576\r\nmaxmemory:104857600\r\nconnected_slaves:1\r\n\
        slave0:ip=127.0.0.1,port=7001,state=online,offset=1,lag=0\r\naof_enabled:1\r\naof_last_write_status:ok\r\n\
        aof_last_bgrewrite_status:ok\r\nrdb_last_bgsave_status:ok\r\n";

    fn levels(text: &str, allowed: Allowed) -> Vec<(&'static str, Level)> {
        let found = examine(&Info::parse(text), allowed);
        found.into_iter().filter(|finding| finding.level > Level::Note).map(|f| (f.check, f.level)).collect()
    }

    #[test]
    fn a_healthy_server_has_nothing_worse_than_notes() {
        assert_eq!(levels(HEALTHY, Allowed::default()), []);
        let valkey = HEALTHY.replace("redis_version:7.4.1", "redis_version:7.2.4\r\nvalkey_version:8.0.1");
        assert_eq!(levels(&valkey, Allowed::default()), []);
        assert!(examine(&Info::parse(&valkey), Allowed::default()).iter().any(|f| f.found == "Valkey 8.0.1"));
    }

    #[test]
    fn each_ailment_is_found() {
        for (line, ill, check, level) in [
            ("redis_version:7.4.1", "redis_version:6.0.16", "version", Level::Error),
            ("redis_version:7.4.1", "nothing:1", "version", Level::Warning),
            ("role:master", "role:slave", "role", Level::Error),
            ("loading:0", "loading:1", "loading", Level::Warning),
            ("maxmemory_policy:noeviction", "maxmemory_policy:allkeys-lru", "eviction", Level::Error),
            ("maxmemory_policy:noeviction", "nothing:1", "eviction", Level::Warning),
            ("used_memory:1048576", "used_memory:99614720", "memory", Level::Warning),
            ("state=online", "state=wait_bgsave", "replicas", Level::Warning),
            ("aof_enabled:1", "aof_enabled:0", "persistence", Level::Warning),
            ("aof_last_write_status:ok", "aof_last_write_status:err", "persistence", Level::Error),
            ("rdb_last_bgsave_status:ok", "rdb_last_bgsave_status:err", "persistence", Level::Error),
        ] {
            assert_eq!(levels(&HEALTHY.replace(line, ill), Allowed::default()), [(check, level)], "{ill}");
        }
        let evicting = HEALTHY.replace("noeviction", "volatile-lru");
        assert_eq!(levels(&evicting, Allowed { eviction: true }), [("eviction", Level::Warning)]);
    }

    #[test]
    fn every_finding_that_is_not_well_says_what_follows() {
        for finding in examine(&Info::default(), Allowed::default()) {
            assert_eq!(finding.consequence.is_empty(), finding.level == Level::Ok, "{finding:?}");
        }
    }
}
