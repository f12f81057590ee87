-- verify: checks a bounded part of a queue, and mends what is wrong there, at one instant: what is merely in motion is
-- never seen halfway. Nothing is written without `mend`. No id is lost by it: where one is in two states, the one that
-- is delivered stays.
-- KEYS   the eight of lib.lua
-- ARGV   1 now
--        2 1 to mend, else 0
--        3 what to look at: scheduled, leased, leases, batches, payload, attempts; or orphans, for the ids in 5…
--        4 where to go on: '0' at first, then what the reply before said; '0' for orphans
--        5… orphans only: at most 1000 ids whose payload belongs to nobody
-- Reply  1 where to go on, '0' at the end  2 how many were looked at
--        3 findings, a flat list of pairs: finding, id or token. These are:
--          scheduled_and_dead, leased_and_dead   mended by removing it from the dead
--          lease_without_end                     mended by an end of now: it is delivered again
--          not_in_batch                          its deadline and payload are lost; mended by a batch that says now
--          lease_of_nobody, batch_of_nobody      mended by removing it
--          payload_of_nobody                     to be asked again later, by `orphans`: a payload is written before its id
--          record_of_nobody, damaged_record      mended by removing it
local now = clock(ARGV[1])
local mend, part, cursor = ARGV[2] == '1', ARGV[3], ARGV[4]
local findings, looked_at = {}, 0
guard()

local function found(what, id)
  findings[#findings + 1], findings[#findings + 2] = what, id
end

-- Members or fields of a step, whatever stands beside them. A small set comes as a whole: 128 entries with the defaults.
local function step(verb, key, count)
  local answer = call(verb, key, cursor, 'COUNT', count)
  cursor = answer[1]
  local names, values = {}, {}
  for i = 1, #answer[2], 2 do
    names[#names + 1], values[#values + 1] = answer[2][i], answer[2][i + 1]
  end
  looked_at = #names
  return names, values
end

-- What can be asked of many at once, in calls that unpack can take.
local function scores_of(set, ids)
  local scores = {}
  for from = 1, #ids, 1000 do
    local to = math.min(from + 999, #ids)
    for i, score in ipairs(call('ZMSCORE', set, unpack(ids, from, to))) do
      scores[from + i - 1] = score
    end
  end
  return scores
end

local function not_dead(what, ids)
  for i, buried in ipairs(scores_of(dead, ids)) do
    if buried then
      found(what, ids[i])
      if mend then
        call('ZREM', dead, ids[i])
      end
    end
  end
end

-- A batch that says of all ids of a token that they are due now.
local function new_batch(token)
  local entries = {}
  for _, id in ipairs(call('ZRANGEBYSCORE', leased, token, token, 'LIMIT', 0, 1000)) do
    entries[#entries + 1], entries[#entries + 2] = id, batch_of(token).scores[id] or digits(now)
  end
  call('HSET', batches, token, cmsgpack.pack({ entries, batch_of(token).payloads }))
  opened[token] = nil
end

local look = {}

function look.scheduled()
  not_dead('scheduled_and_dead', (step('ZSCAN', scheduled, 500)))
end

function look.leased()
  local ids, tokens = step('ZSCAN', leased, 500)
  not_dead('leased_and_dead', ids)
  for i, id in ipairs(ids) do
    local token = digits(tokens[i])
    if not call('ZSCORE', leases, token) then
      found('lease_without_end', id)
      if mend then
        call('ZADD', leases, digits(now), token)
      end
    end
    -- Whether it is in the batch is seen with the batches: 500 ids may be of as many claims.
    if call('HEXISTS', batches, token) == 0 then
      found('not_in_batch', id)
      if mend then
        new_batch(token)
      end
    end
  end
end

function look.leases()
  for _, token in ipairs((step('ZSCAN', leases, 500))) do
    if call('ZCOUNT', leased, token, token) == 0 then
      found('lease_of_nobody', token)
      if mend then
        call('ZREM', leases, token)
        call('HDEL', batches, token)
      end
    end
  end
end

-- Their values are large, and HSCAN answers them: a step of few.
function look.batches()
  for _, token in ipairs((step('HSCAN', batches, 10))) do
    local ids = tonumber(token) and call('ZRANGEBYSCORE', leased, token, token, 'LIMIT', 0, 1000) or {}
    if #ids == 0 then
      found('batch_of_nobody', token)
      if mend then
        call('HDEL', batches, token)
      end
    end
    local is_whole = true
    for _, id in ipairs(ids) do
      if not batch_of(token).scores[id] then
        found('not_in_batch', id)
        is_whole = false
      end
    end
    if mend and not is_whole then
      new_batch(token)
    end
  end
end

local function orphans(ids, what)
  local due, buried = scores_of(scheduled, ids), scores_of(dead, ids)
  for i, id in ipairs(ids) do
    if not due[i] and not buried[i] then
      found(what, id)
    end
  end
end

function look.payload()
  orphans((step('HSCAN', payload, 100)), 'payload_of_nobody')
end

function look.orphans()
  local ids = { unpack(ARGV, 5) }
  local texts, there = #ids > 0 and call('HMGET', payload, unpack(ids)) or {}, {}
  for i, id in ipairs(ids) do
    there[#there + 1] = texts[i] and id or nil
  end
  orphans(there, 'payload_of_nobody')
  if mend then
    for i = 2, #findings, 2 do
      call('HDEL', payload, findings[i])
    end
  end
end

function look.attempts()
  local ids, texts = step('HSCAN', attempts, 500)
  local due, held, buried = scores_of(scheduled, ids), scores_of(leased, ids), scores_of(dead, ids)
  for i, id in ipairs(ids) do
    local is_damaged = not decode(texts[i])
    if is_damaged or not (due[i] or held[i] or buried[i]) then
      found(is_damaged and 'damaged_record' or 'record_of_nobody', id)
      if mend then
        call('HDEL', attempts, id)
      end
    end
  end
end

local check = look[part]
if not check then
  return redis.error_reply('ERR overdue: verify looks at no such part')
end
check()
return { cursor, looked_at, findings }
