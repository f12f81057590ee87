-- order_expire: expires orders whose deadline has passed: status, event and deadline in one step. The caller names
-- the ids, since their keys must be declared, and each call answers which ones to name next.
-- KEYS   those of order_lib.lua, with one order for each id of ARGV
-- ARGV   1 now
--        2 limit, 1 to 100: how many ids the answer names at most
--        3 how far ahead it names them, in ms
--        4 rate limit in ids a second, over all processes; '' for none
--        5 for how many ms an expired order is kept; '' for ever
--        6 1 if somebody is to be told of each expired order by the queue of KEYS 13 and 14, else 0
--        7… at most 100 ids
-- Reply  1 now in µs
--        2 how many expired
--        3 how many deadlines were dropped because their orders had come to another end
--        4 how many ids were moved to the dead set because they have no order
--        5 when to look again in ms: the next deadline, or when the rate allows more; or nil
--        6 how many entries have an impossible score and wait for `reject`
--        7 1 if the ids of part 9 begin with one that can be expired at once, else 0
--        8 the earliest deadline among the expired in ms, 0 if none
--        9 ids, in the order of their deadlines
--       10 the canary found (see lib.lua), or nil  11 the canary left
guard_orders()
local now, now_us = clock(ARGV[1])
local wanted, horizon, retain, notify = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[5], ARGV[6] == '1'
local state = state_of_queue(now, now_us)
local limit, spend = allowance(state, wanted, ARGV[4], now, now_us)
local MAX_NOTICE_BYTES = 4 * 1024 * 1024 -- copying 4 MiB takes Redis a few ms

local WHY = {
  no_order = 'there is no order of this id',
  not_an_order = 'the key of the order holds a hash without a status of an order',
  wrong_type = 'the key of the order holds no hash',
}
local handled, notices, counts, earliest = {}, {}, { expired = 0, dropped = 0, buried = 0 }, 0
local notice_bytes, have_pasts = 0, call('HLEN', attempts) > 0

local function bury(id, due, reason)
  local record = { failures = 0, crashes = 0, due = due, reason = reason, error = WHY[reason] }
  call('HSET', attempts, id, cjson.encode(record))
  call('ZADD', dead, digits(now), id)
  counts.buried = counts.buried + 1
end

local function note(id, due, order)
  local flat, fields = call('HGETALL', order), {}
  for i = 1, #flat, 2 do
    fields[flat[i]] = flat[i + 1]
  end
  local text = cjson.encode(fields)
  notices[#notices + 1] = { id, due, text }
  notice_bytes = notice_bytes + #text
end

local function expire(id, score, order)
  local due = due_of(score)
  local status, wrong = status_of(order)
  if have_pasts then
    call('HDEL', attempts, id)
    call('ZREM', dead, id)
  end
  if not status then
    bury(id, due, wrong or 'no_order')
  elseif status ~= 'created' then
    counts.dropped = counts.dropped + 1
  else
    settle(order, id, 'expired', due, now, retain)
    if notify then
      note(id, due, order)
    end
    counts.expired = counts.expired + 1
    if earliest == 0 or tonumber(due) < earliest then
      earliest = tonumber(due)
    end
  end
  handled[#handled + 1] = id
end

-- Ids that another handler of this queue had claimed before it became one of orders: back to where they were.
local touched = {}
for _, found in ipairs(limit > 0 and lost(now, limit, touched) or {}) do
  local id, token, score = unpack(found)
  restore_payload(id, token)
  call('ZADD', scheduled, score, id)
  unlease(id, token, touched)
end
end_leases(touched)

if limit > 0 and #ARGV > 6 then
  local ids = { unpack(ARGV, 7) }
  local scores = call('ZMSCORE', scheduled, unpack(ids))
  for i, id in ipairs(ids) do
    local score = tonumber(scores[i] or 0)
    if #handled == limit or notice_bytes > MAX_NOTICE_BYTES then
      break
    elseif score >= MIN_DUE and score <= now then
      expire(id, scores[i], KEYS[FIRST_ORDER + i - 1])
    end
  end
end
for _, notice in ipairs(notices) do
  local id, due, text = unpack(notice)
  call('HSET', notify_payload, id, text)
  call('ZADD', notify_scheduled, due, id)
end
if #handled > 0 then
  if call('HLEN', payload) > 0 then -- a plain HSET and ZADD had given one to the deadline
    call('HDEL', payload, unpack(handled))
  end
  call('ZREM', scheduled, unpack(handled))
end

local ids = {}
if limit > 0 then
  ids = call('ZRANGEBYSCORE', scheduled, MIN_DUE, digits(now + horizon), 'LIMIT', 0, wanted)
end
local waits = #ids > 0 and tonumber(call('ZSCORE', scheduled, ids[1])) <= now
-- A rate that is used up tells by part 5 when more may be expired.
local more = waits and (#handled < limit or limit == wanted)
return {
  now_us, counts.expired, counts.dropped, counts.buried,
  spend(#handled), impossible(), more and 1 or 0, earliest, ids,
  state.canary, keep_canary(state.canary, #handled > 0, now, now_us),
}
