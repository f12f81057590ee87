-- fire_stream: hands what is due to a stream and removes it, in one step: claim, delivery and ack without
-- a window between. Ids whose lease ran out (the queue had another handler before) go the same way. Large
-- payloads make a call shorter than its limit: 3 is in the past then.
-- KEYS   the eight of lib.lua, and
--        9 fired  STREAM  entries: id, due_at (ms), fired_at (ms), and payload if there is one
-- ARGV   1 now
--        2 limit, 1 to 1000 ids
-- Reply  1 now in µs
--        2 how many were fired
--        3 score of the earliest deadline still pending, or nil
--        4 how many entries have an impossible score and wait for `reject`
--        5 the earliest deadline fired in ms, 0 if none was
local fired = KEYS[9]
guard()
call('XDEL', fired, '0-1') -- checks the type: no entry can have this number
local now, now_us = clock(ARGV[1])
local limit = tonumber(ARGV[2])
local count, earliest, touched = 0, 0, {}

local function fire(id, due, text)
  if text then
    call('XADD', fired, '*', 'id', id, 'due_at', due, 'fired_at', digits(now), 'payload', text)
  else
    call('XADD', fired, '*', 'id', id, 'due_at', due, 'fired_at', digits(now))
  end
  count = count + 1
  if earliest == 0 or tonumber(due) < earliest then
    earliest = tonumber(due)
  end
end

for _, found in ipairs(lost(now, limit, touched)) do
  local id, token, _, text, record = unpack(found)
  fire(id, record.due, text)
  call('HDEL', attempts, id)
  unlease(id, token, touched)
end
end_leases(touched)

if count < limit then
  local range = call('ZRANGEBYSCORE', scheduled, MIN_DUE, digits(now), 'WITHSCORES', 'LIMIT', 0, limit - count)
  local ids, scores = ids_and_scores(range)
  local texts, fitting = payloads_of(ids)
  for i = #ids, fitting + 1, -1 do
    ids[i], scores[i] = nil, nil
  end
  local pasts = pasts_of(ids, scores)
  for i, id in ipairs(ids) do
    local past = pasts and pasts[i] and decode(pasts[i])
    fire(id, past and past.due or due_of(scores[i]), texts[id])
  end
  if #ids > 0 then
    if next(texts) then
      call('HDEL', payload, unpack(ids))
    end
    if pasts then
      call('HDEL', attempts, unpack(ids))
    end
    call('ZREM', scheduled, unpack(ids))
  end
end
return { now_us, count, next_due(), impossible(), earliest }
