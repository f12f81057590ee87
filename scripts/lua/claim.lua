-- claim: leases what is due, and what is leased but whose lease ran out, under one new token.
-- An id that is due while an earlier delivery of it is still leased waits until that lease ends.
-- KEYS   the eight of lib.lua
-- ARGV   1 now
--        2 limit, 1 to 1000 ids
--        3 lease in ms
--        4 rate limit in ids a second, over all processes; '' for none
--        5 max_crashes: an id with so many kills (see begin) goes to the dead set; '' for never
-- Reply  1 now in µs
--        2 token, 0 if nothing was claimed
--        3 when to look again in ms: the next deadline, or when the rate allows more; or nil
--        4 how many entries have an impossible score and wait for `reject`
--        5 1 if more is due that can be claimed at once (the limit was reached, or payloads are large), else 0
--        6 id, score, …
--        7 payloads by position, nil where there is none; empty if there is none at all
--        8 records (JSON, see lib.lua) by position, likewise
guard()
local now, now_us = clock(ARGV[1])
local is_virtual = ARGV[1] ~= ''
if not is_virtual then
  mend_ends(now)
end
local wanted = tonumber(ARGV[2])
local max_crashes = tonumber(ARGV[5]) or math.huge
local limit, spend = allowance(wanted, ARGV[4], now, now_us)
local token = digits(math.max(tonumber(call('HGET', meta, 'token') or 0) + 1, now_us))

local entries, payloads, records, by_id, touched = {}, {}, {}, {}, {}
local count, any_record = 0, false

local function take(id, score, text, record)
  count = count + 1
  entries[2 * count - 1], entries[2 * count] = id, score
  payloads[count], records[count], by_id[id] = text or false, record or false, text or nil
  any_record = any_record or record
end

-- What a redelivery needs comes before the hold of those that have it from an earlier claim.
local function write_lease()
  call('HSET', batches, token, cmsgpack.pack({ entries, by_id }))
  call('ZADD', leases, digits(now + tonumber(ARGV[3])), token)
  if is_virtual then
    call('HSET', meta, 'token', token)
  else
    call('HSET', meta, 'token', token, 'clock', digits(now))
  end
end

local leftovers, more_lost = {}, false
if limit > 0 then
  leftovers, more_lost = lost(now, limit, touched)
end
local moved = {}
for _, found in ipairs(leftovers) do
  local id, old_token, score, text, record = unpack(found)
  record.crashes = record.crashes + 1
  if tonumber(record.begun or 0) == tonumber(old_token) then
    record.kills = record.kills + 1
  end
  record.begun = nil
  if record.kills >= max_crashes then
    record.reason, record.retry = 'max_crashes', nil
    record.error = 'its process died ' .. record.kills .. ' times while it was known to run'
    call('HSET', attempts, id, cjson.encode(record))
    restore_payload(id, old_token)
    call('ZADD', dead, digits(now), id)
    unlease(id, old_token, touched)
  else
    record.retry = score
    local json = cjson.encode(record)
    call('HSET', attempts, id, json)
    moved[#moved + 1], moved[#moved + 2] = token, id
    take(id, score, text, json)
  end
end
if #moved > 0 then
  write_lease()
  call('ZADD', leased, unpack(moved))
end

-- Leases those due ids that are free, and answers them. NX finds leased ones at no cost: the number of
-- additions falls short.
local function lease(ids, scores)
  if #ids == 0 then
    return ids, scores
  end
  local arguments = {}
  for i, id in ipairs(ids) do
    arguments[2 * i - 1], arguments[2 * i] = token, id
  end
  if call('ZADD', leased, 'NX', unpack(arguments)) == #ids then
    return ids, scores
  end
  local free, free_scores = {}, {}
  for i, id in ipairs(ids) do
    if holds(id, token) then
      free[#free + 1], free_scores[#free_scores + 1] = id, scores[i]
    end
  end
  return free, free_scores
end

-- The first `room` of those that nobody holds.
local function free_of(ids, scores, room)
  local free, free_scores = {}, {}
  local holders = call('ZMSCORE', leased, unpack(ids))
  for i, id in ipairs(ids) do
    if not holders[i] and #free < room then
      free[#free + 1], free_scores[#free_scores + 1] = id, scores[i]
    end
  end
  return free, free_scores
end

-- The first round takes what is due, as nearly always nobody holds it. Only where that falls short do up to
-- three more look behind leased ones at the head, 1000 each; the rest waits for the leases to end.
local taken, skip, rounds, affordable = {}, 0, 0, true
while count < limit and rounds < 4 and affordable do
  local room = limit - count
  local width = rounds == 0 and room or 1000
  local range = call('ZRANGEBYSCORE', scheduled, MIN_DUE, digits(now), 'WITHSCORES', 'LIMIT', skip, width)
  if #range == 0 then
    break
  end
  skip, rounds = skip + #range / 2, rounds + 1
  local ids, scores = ids_and_scores(range)
  if rounds > 1 then
    ids, scores = free_of(ids, scores, room)
  end
  ids, scores = lease(ids, scores)
  local texts, fitting = payloads_of(ids)
  if fitting < #ids then -- too much for one claim: the rest goes back before anybody sees it leased
    affordable = false
    call('ZREM', leased, unpack(ids, fitting + 1))
    for i = #ids, fitting + 1, -1 do
      ids[i], scores[i] = nil, nil
    end
  end
  local pasts = pasts_of(ids, scores)
  for i, id in ipairs(ids) do
    take(id, scores[i], texts[id], pasts and pasts[i])
    taken[#taken + 1] = id
  end
end

if count > 0 then
  write_lease()
end
if #taken > 0 then -- the sources, now that all destinations are written
  if next(by_id) then
    call('HDEL', payload, unpack(taken))
  end
  call('ZREM', scheduled, unpack(taken))
end
end_leases(touched)

return {
  now_us,
  count > 0 and tonumber(token) or 0,
  spend(count),
  impossible(),
  (count == wanted or more_lost or not affordable) and 1 or 0,
  entries,
  next(by_id) and payloads or {},
  any_record and records or {},
}
