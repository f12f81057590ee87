-- lib: what the verbs share. It is prepended to every verb before SCRIPT LOAD:
--   cat scripts/lua/lib.lua scripts/lua/claim.lua | redis-cli -x SCRIPT LOAD
--
-- KEYS   the same eight in the same order for every verb; all share the hash tag of the queue
--   1 scheduled  ZSET  id -> deadline in ms (of an id that failed: when to try again)
--   2 payload    HASH  id -> payload, of scheduled and dead ids
--   3 leased     ZSET  id -> token of the claim that holds it
--   4 leases     ZSET  token -> end of the lease in ms
--   5 batches    HASH  token -> what a redelivery needs, cmsgpack {{id, score, …}, {id -> payload}}
--   6 attempts   HASH  id -> JSON record of an id that failed, lost a lease or is dead:
--                      due (ms), first (token of its first claim), failures, crashes (lost deliveries),
--                      kills (of these, how many were known to run), begun (token of the one that runs),
--                      retry (its score in scheduled), reason, error;
--                      or only trace (W3C traceparent) and retry, of an id that was registered in a trace
--   7 dead       ZSET  id -> when it was buried, in ms
--   8 meta       HASH  token -> the last token; paused -> 1 while nothing may be claimed;
--                      schema -> the number of the layout that is in use, see SCHEMA; shards, arrived, moved: see shards.lua
--                      rate_until -> up to when, in µs, the rate limit is used up;
--                      canary -> 'born count at': since when in µs it is written, how often it was, and the last
--                      time in ms. It is written by every claim that takes something, and else once a second. Who
--                      finds another one than it left, with another `born` or a lower count, knows of a loss
-- ARGV   as the verb says; `now` is in ms since the epoch, '' takes the clock of Redis
-- Reply  as the verb says; numbers beyond 14 digits must not pass tostring or cjson, see `digits`

local call = redis.call
local scheduled, payload, leased, leases, batches, attempts, dead, meta = unpack(KEYS, 1, 8)

-- Scores outside are no milliseconds: below are seconds, above is past the year 9999. As in types.rs.
local MIN_DUE, MAX_DUE = 100000000000, 253402300799999
-- The number of this layout: who finds a larger one in `meta` would misread what is there, claims nothing, and says so.
local SCHEMA = 1
-- No id holds a control character, so removing this member removes nothing.
local NOBODY = '\0overdue'

local function digits(number)
  return string.format('%.0f', number)
end

-- The instant in ms and in µs. To be called once: before Redis 7.2 TIME moves inside a script.
local is_virtual = false
local function clock(now)
  if now ~= '' then
    is_virtual = true
    return tonumber(now), tonumber(now) * 1000
  end
  local time = call('TIME')
  local us = time[1] * 1000000 + time[2]
  return math.floor(us / 1000), us
end

-- Fails on a key of the wrong type before anything is written, and, because the first write is no
-- denyoom command, exempts the rest of the script from the refusal at maxmemory.
local function guard()
  for _, zset in ipairs({ scheduled, leased, leases, dead }) do
    call('ZREM', zset, NOBODY)
  end
  for _, hash in ipairs({ payload, batches, attempts, meta }) do
    call('HDEL', hash, NOBODY)
  end
end

-- Scores may hold fractions when a foreign client wrote them: rounded up, so that nothing is early. One without a point
-- is passed on as it came; reading and writing it anew takes 1.2 µs.
local function due_of(score)
  return score:find('.', 1, true) and digits(math.ceil(tonumber(score))) or score
end

-- A deadline that is written in digits alone; nil if it is outside the contract.
local function whole_due(text)
  local due = text + 0
  return due >= MIN_DUE and due <= MAX_DUE and due or nil
end

-- A deadline as callers write it: ms since the epoch, or +ms from now; nil if it is outside the contract.
local function due_argument(text, now)
  local due = tonumber(text)
  if due and text:byte() == 43 then -- a plus sign
    due = now + due
  end
  -- Asked this way round, what is no number at all (nan) fails too.
  return due and due >= MIN_DUE and due <= MAX_DUE and math.ceil(due) or nil
end

-- The same, and the trace that may stand behind it, after a space.
local function due_and_trace(text, now)
  local due, trace = due_argument(text, now)
  if not due then
    text, trace = text:match('^(%S+) (%S+)$')
    due = text and due_argument(text, now)
  end
  return due, trace
end

local BAD_DUE = 'ERR overdue: a deadline is in ms since the epoch, from 1e11 to the year 9999'

-- A score as an integer of a reply; 0 for an impossible one, which may be infinite.
local function known_due(score)
  local due = math.ceil(tonumber(score))
  return due >= MIN_DUE and due <= MAX_DUE and due or 0
end

local function holds(id, token)
  return tonumber(call('ZSCORE', leased, id) or 0) == tonumber(token)
end

-- When a key expires in ms since the epoch; -1 without a TTL, -2 without a key. Redis before 7 knows only the time
-- that is left. If that is the same before and after the clock was read, the sum is exact.
local function expiry_of(key)
  local at = redis.pcall('PEXPIRETIME', key)
  if type(at) == 'number' then
    return at
  end
  local left, now
  repeat
    left, now = call('PTTL', key), clock('')
  until left == call('PTTL', key)
  return left < 0 and left or now + left
end

-- A record from its JSON; nil if somebody damaged it: that must not keep its id from being delivered.
local function decode(json)
  local sound, record = pcall(cjson.decode, json)
  if not sound or type(record) ~= 'table' then
    return nil
  end
  record.failures, record.crashes = tonumber(record.failures) or 0, tonumber(record.crashes) or 0
  record.kills = tonumber(record.kills) or 0
  return record
end

local function past_of(id)
  local json = call('HGET', attempts, id)
  return json and decode(json) or nil
end

-- The record of an id that was claimed with `score` under `token`, made if it has none yet.
local function record_of(id, score, token)
  local record = past_of(id) or { failures = 0, crashes = 0, kills = 0 }
  record.due, record.first = record.due or due_of(score), record.first or token
  return record
end

-- What is left of a record when a new deadline begins: the trace of the registration.
local function trace_record(trace, due)
  return cjson.encode({ trace = trace, retry = digits(due) })
end

-- Drops the record of a delivery that is over, unless it is a newer one's: of an id that was registered anew, in a
-- trace and for this score. Such a record has no first claim yet.
local function drop_record(id, score)
  local past = past_of(id)
  if past and (past.first or tonumber(past.retry) ~= tonumber(score)) then
    call('HDEL', attempts, id)
  end
end

local opened = {}

-- What a claim wrote down: score and payload by id. Unpacked once per script.
local function batch_of(token)
  if not opened[token] then
    local batch = { scores = {}, payloads = {}, size = 0 }
    local packed = call('HGET', batches, token)
    local sound, parts = pcall(cmsgpack.unpack, packed or '')
    if packed and sound and type(parts) == 'table' and #parts == 2 then
      local entries, payloads = unpack(parts)
      for i = 1, #entries, 2 do
        batch.scores[entries[i]] = entries[i + 1]
      end
      batch.payloads, batch.size = payloads, #entries / 2
    end
    opened[token] = batch
  end
  return opened[token]
end

-- Drops the lease of every token in the set of which no id is leased any more.
local function end_leases(tokens)
  for token in pairs(tokens) do
    if call('ZCOUNT', leased, token, token) == 0 then
      call('ZREM', leases, token)
      call('HDEL', batches, token)
    end
  end
end

-- Ends the lease of one id. The caller passes the tokens that it touched to end_leases.
local function unlease(id, token, touched)
  call('ZREM', leased, id)
  touched[token] = true
end

-- An id that was registered anew while leased: the new deadline stands, the old delivery is over.
local function superseded(id, token, touched)
  local score = call('ZSCORE', scheduled, id)
  if not score then
    return false
  end
  drop_record(id, score)
  unlease(id, token, touched)
  return true
end

-- The payload goes back to where it was before the claim; one that was written since is newer and stays.
local function restore_payload(id, token)
  local text = batch_of(token).payloads[id]
  if text then
    call('HSETNX', payload, id, text)
  end
end

-- Removes a dead id; answers 1, or 0 if it is not dead. Payload and record go with it, unless it is scheduled:
-- then they are a new registration's.
local function forget_dead(id)
  local removed = call('ZREM', dead, id)
  if removed == 1 and not call('ZSCORE', scheduled, id) then
    call('HDEL', attempts, id)
    call('HDEL', payload, id)
  end
  return removed
end

-- A hold without an end of its lease would last for ever, and no script leaves one behind. Half a script does, which
-- Redis runs from a log that was cut inside of it. The oldest hold is looked at, and given an end if it has none.
local function end_endless(now)
  local oldest = call('ZRANGE', leased, 0, 0, 'WITHSCORES')[2]
  if oldest and not call('ZSCORE', leases, digits(oldest)) then
    call('ZADD', leases, digits(now), digits(oldest))
  end
end

-- At most `limit` ids whose lease ran out, as {id, token, score, payload, record}. They are still leased;
-- the caller moves them and ends their leases. 16 tokens a call bound the work when most are finished;
-- the second answer is true if there may be more of them.
local function lost(now, limit, touched)
  end_endless(now)
  local found = {}
  local tokens = call('ZRANGEBYSCORE', leases, '-inf', digits(now), 'LIMIT', 0, 16)
  for _, token in ipairs(tokens) do
    local room = limit - #found
    if room == 0 then
      break
    end
    touched[token] = true
    local batch = batch_of(token)
    for _, id in ipairs(call('ZRANGEBYSCORE', leased, token, token, 'LIMIT', 0, room)) do
      if not superseded(id, token, touched) then
        local score = batch.scores[id] or digits(now)
        local record = record_of(id, score, token)
        found[#found + 1] = { id, token, score, batch.payloads[id] or false, record }
      end
    end
  end
  return found, #tokens == 16
end

-- Splits the flat reply of a range WITHSCORES.
local function ids_and_scores(range)
  local ids, scores = {}, {}
  for i = 1, #range / 2 do
    ids[i], scores[i] = range[2 * i - 1], range[2 * i]
  end
  return ids, scores
end

-- Byte by byte as Redis orders members: Lua's own < follows the locale.
local function follows(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = a:byte(i), b:byte(i)
    if x ~= y then
      return x > y
    end
  end
  return #a > #b
end

-- The rank of the first member behind the last one of the page before; '' and '' for the first page. That member may
-- be gone by now, and a million may share its score, so the place is found by halving.
local function place_behind(set, after_score, after_id)
  if after_score == '' then
    return 0
  end
  local low = call('ZCOUNT', set, '-inf', '(' .. after_score)
  local high = call('ZCOUNT', set, '-inf', after_score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if follows(call('ZRANGE', set, middle, middle)[1], after_id) then
      high = middle
    else
      low = middle + 1
    end
  end
  return low
end

-- Records of ids about to be delivered, by position; nil if none of them has one. A record whose retry
-- time is not the score belongs to an earlier registration (the id was moved, or revived from the dead
-- by a plain ZADD): it is dropped, and the id starts anew. An empty hash costs one HLEN.
local function pasts_of(ids, scores)
  if #ids == 0 or call('HLEN', attempts) == 0 then
    return nil
  end
  local pasts = call('HMGET', attempts, unpack(ids))
  for i, json in ipairs(pasts) do
    local past = json and decode(json)
    if json and not (past and tonumber(past.retry) == tonumber(scores[i])) then
      call('HDEL', attempts, ids[i])
      call('ZREM', dead, ids[i])
      pasts[i] = false
    end
  end
  return pasts
end

-- Payloads by id of as many leading ids as 4 MiB allow, and how many ids those are: copying 4 MiB takes
-- Redis a few ms. Read in steps of 100 ids, so at most 6.4 MiB more.
local function payloads_of(ids)
  local texts, bytes = {}, 0
  if call('HLEN', payload) > 0 then
    for from = 1, #ids, 100 do
      local to = math.min(from + 99, #ids)
      for i, text in ipairs(call('HMGET', payload, unpack(ids, from, to))) do
        if text then
          texts[ids[from + i - 1]], bytes = text, bytes + #text
        end
      end
      if bytes > 4 * 1024 * 1024 then
        return texts, to
      end
    end
  end
  return texts, #ids
end

-- The earliest deadline after `from` as a score, or false. After a claim, ids that are due and still there
-- wait for something else (their earlier delivery, or room in a claim): they must not hide the next one.
local function next_due(from)
  local after = call('ZRANGEBYSCORE', scheduled, from, digits(MAX_DUE), 'WITHSCORES', 'LIMIT', 0, 1)
  return after[2] or false
end

-- Since when it is written, how often it was, and when last; nil if it is missing or damaged.
local function parts_of_canary(found)
  local born, count, at = (found or ''):match('^(%d+) (%d+) (%d+)$')
  if born and #born <= 18 and #count <= 15 and #at <= 15 then
    return born, count, at
  end
end

local schema_is_written = false -- read and written along with the canary

-- Writes the canary anew if the script took something, if it is a second old, or lies in the future because the
-- clock stepped back; one that is missing, or damaged, is born. The count is what others compare: it grows whatever
-- the clock does. Answers the canary that stands then.
local function keep_canary(found, took, now, now_us)
  local born, count, at = parts_of_canary(found)
  if not born then
    born, count, at = digits(now_us), 0, 0
  end
  local age = now - tonumber(at)
  if not took and age >= 0 and age < 1000 then
    return found
  end
  local left = born .. ' ' .. digits(count + 1) .. ' ' .. digits(now)
  call('HSET', meta, 'canary', left, unpack(schema_is_written and {} or { 'schema', SCHEMA }))
  return left
end

-- Ends of leases are instants of a clock that may step back: it was wrong and is set right, or Redis moved to another
-- machine. What a dead process held would then come back late by the step. So a clock that is a second or more behind
-- the canary takes the difference off all ends that were still ahead of that. The step was no smaller, so nobody loses
-- a lease early. Not in virtual time, in which tests go back and forth.
local function mend_ends(canary, now, now_us)
  local _, _, at = parts_of_canary(canary)
  local behind = tonumber(at or 0) - now
  if is_virtual or behind < 1000 then
    return
  end
  local range = call('ZRANGEBYSCORE', leases, '(' .. digits(now + behind), '+inf', 'WITHSCORES', 'LIMIT', 0, 1000)
  for i = 1, #range, 2 do
    call('ZADD', leases, digits(tonumber(range[i + 1]) - behind), range[i])
  end
  keep_canary(canary, true, now, now_us)
end

-- What `meta` holds, in one read. All who write ends of leases, or the canary, begin with it.
local function state_of_queue(now, now_us)
  local values = call('HMGET', meta, 'token', 'paused', 'rate_until', 'canary', 'schema', 'shards')
  local schema = tonumber(values[5] or 0) or 0
  if schema > SCHEMA then
    error('overdue: newer schema: this queue has ' .. schema .. ', and this version knows ' .. SCHEMA)
  end
  schema_is_written = schema == SCHEMA
  mend_ends(values[4], now, now_us)
  return { token = values[1], paused = values[2], rate_until = values[3], canary = values[4], shards = values[6] }
end

-- What may be taken now: none while the queue is paused, and what the rate (ids a second, '' for no limit)
-- leaves. Permits accrue evenly; what was not used is kept for 100 ms, or for one id, so a burst after a
-- quiet time is a tenth of a second's worth. Answers the limit, and a function that spends it and tells when
-- to look again.
local function allowance(state, limit, rate, now, now_us)
  local function after_now()
    return next_due('(' .. digits(now))
  end
  if state.paused then
    return 0, function() return false end
  elseif rate == '' then
    return limit, after_now
  end
  local interval_us = 1000000 / tonumber(rate)
  local used_until = tonumber(state.rate_until or 0)
  used_until = math.max(used_until, now_us - math.max(100000, interval_us))
  if used_until > now_us then -- the clock stepped back; without this the queue would wait for the time it had
    used_until = now_us - interval_us
  end
  local permits = math.max(math.floor((now_us - used_until) / interval_us), 0)

  local function spend(count)
    used_until = used_until + count * interval_us
    if count > 0 then
      call('HSET', meta, 'rate_until', digits(used_until))
    end
    if count < permits then -- not the rate was the limit: what is due and still there waits for something else
      return after_now()
    end
    -- At 100 ids a second and more, 10 ms' worth at once: claims of one id each would cost more than they bring.
    local permitted_ms = math.ceil((used_until + math.max(interval_us, 10000)) / 1000)
    local due = next_due(MIN_DUE)
    return due and digits(math.max(math.ceil(tonumber(due)), permitted_ms))
  end
  return math.min(limit, permits), spend
end

-- How many entries are below all deadlines.
local function too_low()
  return call('ZCOUNT', scheduled, '-inf', '(' .. digits(MIN_DUE))
end

-- How many entries can never fire; `reject` moves them to the dead set.
local function impossible()
  return too_low() + call('ZCOUNT', scheduled, '(' .. digits(MAX_DUE), '+inf')
end

-- Removes the `count` earliest deadlines. They stand side by side, so this looks for one place, where ZREM looks for that
-- of each id: 0.3 µs less an id.
local function remove_earliest(count)
  local low = too_low()
  call('ZREMRANGEBYRANK', scheduled, low, low + count - 1)
end
