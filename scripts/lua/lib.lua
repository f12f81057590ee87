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
--                      due (ms), first (token of its first claim), failures, crashes,
--                      retry (its score in scheduled), reason, error
--   7 dead       ZSET  id -> when it was buried, in ms
--   8 meta       HASH  token -> the last token
-- ARGV   as the verb says; `now` is in ms since the epoch, '' takes the clock of Redis
-- Reply  as the verb says; numbers beyond 14 digits must not pass tostring or cjson, see `digits`

local call = redis.call
local scheduled, payload, leased, leases, batches, attempts, dead, meta = unpack(KEYS, 1, 8)

-- Scores outside are no milliseconds: below are seconds, above is past the year 9999. As in types.rs.
local MIN_DUE, MAX_DUE = 100000000000, 253402300799999
-- No id holds a control character, so removing this member removes nothing.
local NOBODY = '\0overdue'

local function digits(number)
  return string.format('%.0f', number)
end

-- The instant in ms and in µs. To be called once: before Redis 7.2 TIME moves inside a script.
local function clock(now)
  if now ~= '' then
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

-- Scores may hold fractions when a foreign client wrote them: rounded up, so that nothing is early.
local function due_of(score)
  return digits(math.ceil(tonumber(score)))
end

-- A score as an integer of a reply; 0 for an impossible one, which may be infinite.
local function known_due(score)
  local due = math.ceil(tonumber(score))
  return due >= MIN_DUE and due <= MAX_DUE and due or 0
end

local function holds(id, token)
  return tonumber(call('ZSCORE', leased, id) or 0) == tonumber(token)
end

-- A record from its JSON; nil if somebody damaged it: that must not keep its id from being delivered.
local function decode(json)
  local sound, record = pcall(cjson.decode, json)
  if not sound or type(record) ~= 'table' then
    return nil
  end
  record.failures, record.crashes = tonumber(record.failures) or 0, tonumber(record.crashes) or 0
  return record
end

local function past_of(id)
  local json = call('HGET', attempts, id)
  return json and decode(json) or nil
end

-- The record of an id that was claimed with `score` under `token`, made if it has none yet.
local function record_of(id, score, token)
  return past_of(id) or { due = due_of(score), first = token, failures = 0, crashes = 0 }
end

local opened = {}

-- What a claim wrote down: score and payload by id. Unpacked once per script.
local function batch_of(token)
  if not opened[token] then
    local batch = { scores = {}, payloads = {}, size = 0 }
    local packed = call('HGET', batches, token)
    if packed then
      local entries, payloads = unpack(cmsgpack.unpack(packed))
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
  if not call('ZSCORE', scheduled, id) then
    return false
  end
  call('HDEL', attempts, id)
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

-- At most `limit` ids whose lease ran out, as {id, token, score, payload, record}. They are still leased;
-- the caller moves them and ends their leases. 16 tokens a call bound the work when most are finished.
local function lost(now, limit, touched)
  local found = {}
  for _, token in ipairs(call('ZRANGEBYSCORE', leases, '-inf', digits(now), 'LIMIT', 0, 16)) do
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
  return found
end

-- Splits the flat reply of a range WITHSCORES.
local function ids_and_scores(range)
  local ids, scores = {}, {}
  for i = 1, #range, 2 do
    ids[#ids + 1], scores[#scores + 1] = range[i], range[i + 1]
  end
  return ids, scores
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

-- The earliest pending deadline as a score, or false.
local function next_due()
  local first = call('ZRANGEBYSCORE', scheduled, MIN_DUE, digits(MAX_DUE), 'WITHSCORES', 'LIMIT', 0, 1)
  return first[2] or false
end

-- How many entries can never fire; `reject` moves them to the dead set.
local function impossible()
  return call('ZCOUNT', scheduled, '-inf', '(' .. digits(MIN_DUE))
    + call('ZCOUNT', scheduled, '(' .. digits(MAX_DUE), '+inf')
end
