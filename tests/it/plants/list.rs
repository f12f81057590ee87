//! The plants.

use super::scripts::replaced;

/// A bug: a text in a script, and what stands there instead.
pub(super) struct Plant {
    pub(super) script: &'static str,
    /// What the bug does.
    pub(super) name: &'static str,
    old: &'static str,
    new: &'static str,
    pub(super) seen_by: SeenBy,
}

/// What has to find a plant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SeenBy {
    /// The state machine of `model.rs`.
    Model,
    /// The drills.
    Clock,
    Full,
    Rate,
    Shards,
    Deaths,
}

impl Plant {
    pub(super) fn put_into(&self, text: &str) -> String {
        replaced(text, self.old, self.new, self.name)
    }
}

/// One that the state machine sees.
pub(super) const fn plant(
    script: &'static str,
    name: &'static str,
    old: &'static str,
    new: &'static str,
) -> Plant {
    Plant { script, name, old, new, seen_by: SeenBy::Model }
}

/// One that only this drill can see.
pub(super) const fn seen_by(seen_by: SeenBy, plant: Plant) -> Plant {
    Plant { seen_by, ..plant }
}

pub(super) const PLANTS: &[Plant] = &[
    // Who may speak for an id.
    plant(
        "ack",
        "an ack asks for no token",
        "local is_held = tonumber(holders[i] or 0) == tonumber(tokens[i])",
        "local is_held = holders[i]",
    ),
    plant("ack", "an ack answers done and does nothing", "call('ZREM', leased, unpack(done))", ""),
    plant(
        "ack",
        "an ack takes a new registration along",
        "call('ZREM', leased, unpack(done))",
        "call('ZREM', leased, unpack(done)) call('ZREM', scheduled, unpack(done))",
    ),
    plant("ack", "an ack of a claim takes later claims along", "first + math.min(held, 1000) - 1", "-1"),
    plant("ack", "an ack of a claim leaves the records", "  drop_records(ids)\n", ""),
    plant(
        "lib",
        "any token holds an id",
        "return tonumber(call('ZSCORE', leased, id) or 0) == tonumber(token)",
        "return call('ZSCORE', leased, id) ~= false",
    ),
    plant(
        "extend",
        "a lost lease is extended",
        "local live = call('ZSCORE', leases, token) and (id == '' or holds(id, token))",
        "local live = true call('ZADD', leases, digits(lease_end), token)",
    ),
    plant(
        "extend",
        "an extension is answered and not made",
        "call('ZADD', leases, 'XX', digits(lease_end), token)",
        "",
    ),
    plant("begin", "the token of who begins is not asked for", " or not holds(id, token)", ""),
    // Claims.
    plant(
        "claim",
        "a claim is two seconds early",
        "MIN_DUE, digits(now), 'WITHSCORES'",
        "MIN_DUE, digits(now + 2000), 'WITHSCORES'",
    ),
    plant(
        "claim",
        "a claim is a millisecond early",
        "MIN_DUE, digits(now), 'WITHSCORES'",
        "MIN_DUE, digits(now + 1), 'WITHSCORES'",
    ),
    plant("claim", "a claim has no limit", "'LIMIT', skip, width)", "'LIMIT', skip, 1000)"),
    plant(
        "claim",
        "a claim takes ids that are leased",
        "if call('ZADD', leased, 'NX', unpack(arguments)) == #range / 2 then",
        "if call('ZADD', leased, unpack(arguments)) >= 0 then",
    ),
    plant(
        "claim",
        "lost leases are never taken again",
        "leftovers, more_lost = lost(now, limit, touched)",
        "",
    ),
    plant("claim", "the token is that of the clock only", " + 1, now_us))", " * 0, now_us))"),
    plant("claim", "the token is not written down", "call('HSET', meta, 'token', token)", ""),
    plant("claim", "a claim leaves its ids scheduled", "    remove_earliest(side_by_side)\n", ""),
    plant(
        "claim",
        "a claim leaves ids scheduled that it took from behind others",
        "    call('ZREM', scheduled, unpack(taken))\n",
        "",
    ),
    plant(
        "claim",
        "a claim removes the earliest and not what it took",
        "side_by_side = is_whole and #ids or 0",
        "side_by_side = #ids",
    ),
    plant("lib", "one too many is removed", "low, low + count - 1", "low, low + count"),
    plant("lib", "what can never fire is removed", "local low = too_low()", "local low = 0"),
    plant("claim", "a claim leaves the payloads behind", "call('HDEL', payload, unpack(taken))", ""),
    plant("claim", "a lost delivery is not counted", "record.crashes = record.crashes + 1", ""),
    plant(
        "claim",
        "bystanders of a death count as killed",
        "if tonumber(record.begun or 0) == tonumber(old_token) then",
        "if true then",
    ),
    plant(
        "claim",
        "max_crashes buries one too late",
        "if record.kills >= max_crashes then",
        "if record.kills > max_crashes then",
    ),
    plant(
        "claim",
        "a lost delivery forgets its attempts before that",
        "call('HSET', attempts, id, json)",
        "call('HDEL', attempts, id)",
    ),
    plant(
        "lib",
        "a lease ends two seconds early",
        "call('ZRANGEBYSCORE', leases, '-inf', digits(now), 'LIMIT', 0, 16)",
        "call('ZRANGEBYSCORE', leases, '-inf', digits(now + 2000), 'LIMIT', 0, 16)",
    ),
    plant(
        "lib",
        "the lease of a claim ends with its first id",
        "if call('ZCOUNT', leased, token, token) == 0 then",
        "if true then",
    ),
    plant(
        "lib",
        "leases that hold nothing stay",
        "if call('ZCOUNT', leased, token, token) == 0 then",
        "if false then",
    ),
    plant("lib", "a claim does not tell the next deadline", "return after[2] or false", "return false"),
    plant(
        "lib",
        "a fraction of a millisecond is rounded down",
        "digits(math.ceil(tonumber(score))) or score",
        "digits(math.floor(tonumber(score))) or score",
    ),
    plant(
        "lib",
        "a queue that is paused goes on",
        "return 0, function() return false end",
        "return limit, after_now",
    ),
    plant(
        "lib",
        "a new registration waits for its old delivery, and then loses",
        "local score = call('ZSCORE', scheduled, id)\n  if not score then\n    return false\n  end\n  drop_record",
        "local score = false\n  if not score then\n    return false\n  end\n  drop_record",
    ),
    plant(
        "lib",
        "attempts of an earlier registration count",
        "if json and not (past and tonumber(past.retry) == tonumber(scores[i])) then",
        "if json and not past then",
    ),
    plant(
        "lib",
        "the payload of an old delivery replaces a newer one",
        "call('HSETNX', payload, id, text)",
        "call('HSET', payload, id, text)",
    ),
    plant(
        "lib",
        "the deadline moves with each attempt",
        "record.due, record.first = record.due or due_of(score), record.first or token",
        "record.due, record.first = due_of(score), record.first or token",
    ),
    plant(
        "lib",
        "each attempt has another first token",
        "record.due, record.first = record.due or due_of(score), record.first or token",
        "record.due, record.first = record.due or due_of(score), token",
    ),
    // How deliveries end.
    plant(
        "release",
        "a release forgets the attempts",
        "call('ZADD', scheduled, score, id)",
        "call('ZADD', scheduled, score, id) call('HDEL', attempts, id)",
    ),
    plant("release", "a release drops the payload", "restore_payload(id, token)", ""),
    plant(
        "retry",
        "a retry forgets the failures before",
        "record.failures, record.error = record.failures + 1, message",
        "record.failures, record.error = 1, message",
    ),
    plant(
        "retry",
        "a retry comes without delay",
        "local retry_at = math.min(now + tonumber(delay_ms), MAX_DUE)",
        "local retry_at = now",
    ),
    plant(
        "retry",
        "attempts are never spent",
        "local spent = record.failures >= max_attempts",
        "local spent = false",
    ),
    plant("bury", "what is buried is not kept", "call('ZADD', dead, digits(now), id)", ""),
    plant("bury", "what is buried loses its payload", "restore_payload(id, token)", ""),
    plant("bury", "what is buried is still leased", "unlease(id, token, touched)", ""),
    // Registering.
    plant(
        "schedule",
        "keep replaces",
        "elseif mode == 'replace' or (",
        "elseif mode ~= 'latest' and mode ~= 'earliest' or (",
    ),
    plant("schedule", "keep registers what is leased", "return 5\n", "return false\n"),
    plant("schedule", "earliest takes the later one", "due < old", "due > old"),
    plant(
        "schedule",
        "expected is not compared",
        "if expected ~= '' and (old or 0) ~= tonumber(expected) then",
        "if false then",
    ),
    plant(
        "schedule",
        "a new deadline has the attempts of the old one",
        "call('HDEL', attempts, unpack(changed))",
        "",
    ),
    plant("schedule", "what is registered again stays dead", "call('ZREM', dead, unpack(changed))", ""),
    plant("schedule", "a registration gets the payload of a cancelled one", "bare[id] = true", ""),
    plant(
        "schedule",
        "payloads have a TTL",
        "call('HSET', payload, unpack(texts))",
        "call('HSET', payload, unpack(texts)) call('EXPIRE', payload, 86400)",
    ),
    plant(
        "reschedule",
        "a reschedule does not compare",
        "if expected ~= '' and old ~= tonumber(expected) then",
        "if false then",
    ),
    plant("reschedule", "a reschedule moves nothing", "call('ZADD', scheduled, digits(due), id)", ""),
    plant("cancel", "a cancel leaves the lease", "unlease(id, token, touched)", ""),
    plant("cancel", "a cancel leaves the deadline", "call('ZREM', scheduled, id)", ""),
    plant("cancel", "a cancel leaves the payload", "call('HDEL', payload, id)", ""),
    plant("cancel", "a cancel leaves the attempts", "call('HDEL', attempts, id)", ""),
    // The dead and the impossible.
    plant(
        "claim",
        "an impossible score fires",
        "call('ZRANGEBYSCORE', scheduled, MIN_DUE,",
        "call('ZRANGEBYSCORE', scheduled, '-inf',",
    ),
    plant("reject", "an impossible score is dropped", "call('ZADD', dead, digits(now), id)", ""),
    plant("reject", "what is leased is rejected", "if not call('ZSCORE', leased, id) then", "if true then"),
    plant(
        "retry_dead",
        "a retry of the dead is due never",
        "call('ZADD', scheduled, digits(now), id)\n  else",
        "else",
    ),
    plant(
        "retry_dead",
        "a retry of the dead replaces a new registration",
        "if record.due and not call('ZSCORE', scheduled, id) then",
        "if record.due then",
    ),
    plant("trim_dead", "a trim is a millisecond early", "'(' .. digits(before)", "digits(before)"),
    plant(
        "lib",
        "a deleted id leaves its payload",
        "    call('HDEL', payload, id)\n  end\n  return removed",
        "  end\n  return removed",
    ),
    // Sinks.
    plant(
        "fire_stream",
        "what is fired into a stream is not there",
        "call('XADD', fired, '*', unpack(fields))",
        "",
    ),
    plant(
        "fire_stream",
        "what is fired into a stream is there twice",
        "call('XADD', fired, '*', unpack(fields))",
        "call('XADD', fired, '*', unpack(fields)) call('XADD', fired, '*', unpack(fields))",
    ),
    plant(
        "fire_list",
        "what is fired into a list is not there",
        "call('LPUSH', fired, unpack(elements))",
        "",
    ),
    plant("fire_lib", "a sink fires again and again", "    remove_earliest(removed)\n", ""),
    plant(
        "fire_lib",
        "a sink forgets what another handler had",
        "leftovers, more = lost(now, limit, touched)",
        "",
    ),
    // What only drills see.
    seen_by(
        SeenBy::Clock,
        plant(
            "lib",
            "the clock is five seconds ahead",
            "local us = time[1] * 1000000 + time[2]",
            "local us = time[1] * 1000000 + time[2] + 5000000",
        ),
    ),
    seen_by(
        SeenBy::Clock,
        plant(
            "lib",
            "a delay counts from a clock that is behind",
            "due = now + due",
            "due = now - 5000 + due",
        ),
    ),
    seen_by(
        SeenBy::Full,
        plant(
            "lib",
            "nothing guards against a full Redis",
            "local function guard()\n",
            "local function guard()\n  do return end\n",
        ),
    ),
    seen_by(
        SeenBy::Rate,
        plant("lib", "the rate is ignored", "return math.min(limit, permits), spend", "return limit, spend"),
    ),
    seen_by(
        SeenBy::Deaths,
        plant(
            "claim",
            "a claim removes before it writes",
            "  local free = lease(rounds == 1 and range or free_of(range, room))\n",
            "  call('ZREM', scheduled, unpack((ids_and_scores(range))))
  local free = lease(rounds == 1 and range or free_of(range, room))\n",
        ),
    ),
    seen_by(
        SeenBy::Deaths,
        plant(
            "claim",
            "a claim holds before its lease has an end",
            "  begin_lease()\n  write_batch()\n  call('ZADD', leased, unpack(moved))\n",
            "  call('ZADD', leased, unpack(moved))\n  begin_lease()\n  write_batch()\n",
        ),
    ),
    seen_by(
        SeenBy::Deaths,
        plant(
            "bury",
            "a bury ends the lease before the id is dead",
            "    call('ZADD', dead, digits(now), id)\n    unlease(id, token, touched)\n",
            "    unlease(id, token, touched)\n    call('ZADD', dead, digits(now), id)\n",
        ),
    ),
    seen_by(
        SeenBy::Deaths,
        plant(
            "retry_dead",
            "a retry of the dead takes the id out first",
            "local record = past_of(id) or {}",
            "call('ZREM', dead, id) local record = past_of(id) or {}",
        ),
    ),
    seen_by(
        SeenBy::Deaths,
        plant(
            "release",
            "a release ends the lease first",
            "    restore_payload(id, token)\n",
            "    unlease(id, token, touched) restore_payload(id, token)\n",
        ),
    ),
    seen_by(
        SeenBy::Deaths,
        plant(
            "fire_lib",
            "a sink removes before it fires",
            "  if count > 0 then\n    done()",
            "  if removed > 0 then\n    remove_earliest(removed)\n  end\n  if count > 0 then\n    done()",
        ),
    ),
];
