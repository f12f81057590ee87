//! Bare clients: the least that Redis has to do for the same effect. Their keys are none of a queue's.

use std::time::{Duration, Instant};

use anyhow::ensure;
use redis::{Cmd, Connection, Pipeline};
use tokio_util::sync::CancellationToken;

use super::{rig::PREFIX, workload::Workload};

/// What fills a ZSET fast: commands of so many entries, so many in a pipeline.
const ENTRIES_PER_COMMAND: usize = 100;
const COMMANDS_PER_PIPELINE: usize = 10;

/// Claims: ids that are due, moved to a set of leases.
/// KEYS 1 scheduled 2 leased; ARGV 1 now 2 limit 3 token
const CLAIM: &str = "
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
if #ids > 0 then
  redis.call('ZREM', KEYS[1], unpack(ids))
  local leases = {}
  for i, id in ipairs(ids) do
    leases[2 * i - 1], leases[2 * i] = ARGV[3], id
  end
  redis.call('ZADD', KEYS[2], unpack(leases))
end
return ids";

/// Hands ids that are due to a stream, with the same fields as the handler `stream`; answers how many.
/// KEYS 1 scheduled 2 fired; ARGV 1 now 2 limit
const STREAM: &str = "
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'WITHSCORES', 'LIMIT', 0, ARGV[2])
local ids = {}
for i = 1, #due, 2 do
  ids[#ids + 1] = due[i]
  redis.call('XADD', KEYS[2], '*', 'id', due[i], 'due_at', due[i + 1], 'fired_at', ARGV[1])
end
if #ids > 0 then
  redis.call('ZREM', KEYS[1], unpack(ids))
end
return #ids";

/// The same with nothing but the id in an entry.
const STREAM_OF_IDS: &str = "
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, id in ipairs(ids) do
  redis.call('XADD', KEYS[2], '*', 'id', id)
end
if #ids > 0 then
  redis.call('ZREM', KEYS[1], unpack(ids))
end
return #ids";

/// The same to a list.
const LIST_OF_IDS: &str = "
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
if #ids > 0 then
  redis.call('LPUSH', KEYS[2], unpack(ids))
  redis.call('ZREM', KEYS[1], unpack(ids))
end
return #ids";

/// Where a bare client puts due ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BareSink {
    Stream,
    StreamOfIds,
    ListOfIds,
}

impl BareSink {
    fn script(self) -> &'static str {
        match self {
            Self::Stream => STREAM,
            Self::StreamOfIds => STREAM_OF_IDS,
            Self::ListOfIds => LIST_OF_IDS,
        }
    }
}

/// A key of bare clients.
pub(super) fn key(part: &str) -> String {
    format!("{PREFIX}:bare:{part}")
}

/// `ZADD` of one entry.
pub(super) fn zadd((id, due_ms): &(String, i64)) -> Cmd {
    let mut command = redis::cmd("ZADD");
    command.arg(key("scheduled")).arg(*due_ms).arg(id);
    command
}

/// `ZADD` of many entries.
pub(super) fn zadd_all(entries: &[(String, i64)]) -> Cmd {
    let mut command = redis::cmd("ZADD");
    command.arg(key("scheduled"));
    for (id, due_ms) in entries {
        command.arg(*due_ms).arg(id);
    }
    command
}

/// A blocking client with a connection of its own.
pub(super) struct Bare {
    connection: Connection,
    stop: CancellationToken,
}

impl Bare {
    pub(super) fn new(connection: Connection, stop: CancellationToken) -> Self {
        Self { connection, stop }
    }

    /// True once nobody waits for what this does.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Fails once nobody waits for what this does.
    fn check(&self) -> anyhow::Result<()> {
        ensure!(!self.is_stopped(), "interrupted");
        Ok(())
    }

    /// Puts a workload into the ZSET, and a payload for each id into the HASH.
    pub(super) fn fill(&mut self, workload: Workload, payload: Option<&str>) -> anyhow::Result<()> {
        let mut entries = workload.entries();
        loop {
            self.check()?;
            let mut pipeline = Pipeline::new();
            for _ in 0..COMMANDS_PER_PIPELINE {
                let some: Vec<_> = entries.by_ref().take(ENTRIES_PER_COMMAND).collect();
                if some.is_empty() {
                    break;
                }
                if let Some(payload) = payload {
                    let command = pipeline.cmd("HSET").arg(key("payload"));
                    some.iter().for_each(|(id, _)| {
                        command.arg(id).arg(payload);
                    });
                }
                pipeline.add_command(zadd_all(&some));
            }
            if pipeline.is_empty() {
                return Ok(());
            }
            pipeline.exec(&mut self.connection)?;
        }
    }

    /// How many entries the ZSET has.
    pub(super) fn scheduled(&mut self) -> anyhow::Result<u64> {
        Ok(redis::cmd("ZCARD").arg(key("scheduled")).query(&mut self.connection)?)
    }

    /// Claims and acks all that is due, the ack of a batch in one pipeline with the claim of the next; answers how
    /// many ids, and how long it took.
    pub(super) fn lease_loop(&mut self, batch_size: usize) -> anyhow::Result<(u64, Duration)> {
        let (sha, now_ms) = (self.load(CLAIM)?, self.now_ms()?);
        let (scheduled, leased) = (key("scheduled"), key("leased"));
        let (mut count, mut claimed) = (0, Vec::<Vec<u8>>::new());
        let begun = Instant::now();
        for token in 1.. {
            self.check()?;
            let mut pipeline = Pipeline::new();
            if !claimed.is_empty() {
                pipeline.cmd("ZREM").arg(&leased).arg(&claimed).ignore();
            }
            pipeline.cmd("EVALSHA").arg(&sha).arg(2).arg(&scheduled).arg(&leased);
            pipeline.arg(now_ms).arg(batch_size).arg(token);
            (claimed,) = pipeline.query(&mut self.connection)?;
            count += claimed.len() as u64;
            if claimed.is_empty() {
                break;
            }
        }
        Ok((count, begun.elapsed()))
    }

    /// Hands all that is due to a sink; answers how many ids, and how long it took.
    pub(super) fn sink_loop(&mut self, sink: BareSink, batch_size: usize) -> anyhow::Result<(u64, Duration)> {
        let (sha, now_ms) = (self.load(sink.script())?, self.now_ms()?);
        let mut command = redis::cmd("EVALSHA");
        command.arg(sha).arg(2).arg(key("scheduled")).arg(key("fired")).arg(now_ms).arg(batch_size);
        let mut count = 0;
        let begun = Instant::now();
        loop {
            self.check()?;
            let fired: u64 = command.query(&mut self.connection)?;
            count += fired;
            if fired == 0 {
                return Ok((count, begun.elapsed()));
            }
        }
    }

    /// A `PING` and its answer.
    pub(super) fn ping(&mut self) -> anyhow::Result<()> {
        Ok(redis::cmd("PING").exec(&mut self.connection)?)
    }

    fn load(&mut self, script: &str) -> anyhow::Result<String> {
        Ok(redis::cmd("SCRIPT").arg("LOAD").arg(script).query(&mut self.connection)?)
    }

    fn now_ms(&mut self) -> anyhow::Result<i64> {
        let (s, us): (i64, i64) = redis::cmd("TIME").query(&mut self.connection)?;
        Ok(s * 1000 + us / 1000)
    }
}
