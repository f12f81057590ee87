-- claim: leases what is due, and what is leased but whose lease ran out, under one new token.
-- An id that is due while an earlier delivery of it is still leased waits until that lease ends.
-- KEYS   the eight of lib.lua
-- ARGV   1 now
--        2 limit, 1 to 1000 ids
--        3 lease in ms
--        4 rate limit in ids a second, over all processes; '' for none
--        5 max_crashes: an id with so many kills (see begin) goes to the dead set; '' for never
--        6 'packed' for parts 6 and 7 of the reply as one string; may be left out
-- Reply  1 now in µs
--        2 token, 0 if nothing was claimed
--        3 when to look again in ms: the next deadline, or when the rate allows more; or nil
--        4 how many entries have an impossible score and wait for `reject`
--        5 1 if more is due that can be claimed at once (the limit was reached, or payloads are large), else 0
--        6 id, score, …; packed, this and the payloads by id in MessagePack, as `batches` has them: {{id, score, …},
--          {id -> payload}}, where what is empty may be an array; '' if nothing was claimed
--        7 payloads by position, nil where there is none; empty if there is none at all, or if they are packed
--        8 records (JSON, see lib.lua) by position, likewise
--        9 the canary found (see lib.lua), or nil  10 the canary left  11 the shards (see shards.lua), or nil
guard()
local now, now_us = clock(ARGV[1])
local wanted = tonumber(ARGV[2])
local max_crashes = tonumber(ARGV[5]) or math.huge
local state = state_of_queue(now, now_us)
local limit, spend = allowance(state, wanted, ARGV[4], now, now_us)
local token = digits(math.max(tonumber(state.token or 0) + 1, now_us))

local entries, payloads, records, by_id, touched = {}, {}, {}, {}, {}
local count, any_record, has_lease = 0, false, false

local function take(id, score, text, record)
  count = count + 1
  entries[2 * count - 1], entries[2 * count] = id, score
  payloads[count], records[count], by_id[id] = text or false, record or false, text or nil
  any_record = any_record or record
end

-- Before any id is held under the token: what is leased without an end to it would never come back.
local function begin_lease()
  if not has_lease then
    call('ZADD', leases, digits(now + tonumber(ARGV[3])), token)
    has_lease = true
  end
end

local packed = ''
local function write_batch()
  packed = cmsgpack.pack({ entries, by_id })
  call('HSET', batches, token, packed)
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
if #moved > 0 then -- all that is known of them is in the batch of the old token, which they now leave
  begin_lease()
  write_batch()
  call('ZADD', leased, unpack(moved))
end

-- Leases those of a range (id, score, …) that are free, and answers them. NX finds leased ones at no cost: the number of
-- additions falls short.
local function lease(range)
  if #range == 0 then
    return range
  end
  begin_lease()
  local arguments, free = {}, {}
  for i = 1, #range, 2 do
    arguments[i], arguments[i + 1] = token, range[i]
  end
  if call('ZADD', leased, 'NX', unpack(arguments)) == #range / 2 then
    return range
  end
  for i = 1, #range, 2 do
    if holds(range[i], token) then
      free[#free + 1], free[#free + 2] = range[i], range[i + 1]
    end
  end
  return free
end

-- The first `room` of a range that nobody holds.
local function free_of(range, room)
  local free = {}
  local holders = call('ZMSCORE', leased, unpack((ids_and_scores(range))))
  for i = 1, #range, 2 do
    if not holders[(i + 1) / 2] and #free < 2 * room then
      free[#free + 1], free[#free + 2] = range[i], range[i + 1]
    end
  end
  return free
end

-- Nothing to be looked up for each id: the range is what is kept and answered, as it came: 0.4 µs less an id.
local is_plain = #leftovers == 0 and call('HLEN', payload) == 0 and call('HLEN', attempts) == 0

-- The first round takes what is due, as nearly always nobody holds it. Only where that falls short do up to
-- three more look behind leased ones at the head, 1000 each; the rest waits for the leases to end.
local taken, skip, rounds, affordable = {}, 0, 0, true
local side_by_side = 0 -- how many are taken, if they are the earliest deadlines without a gap
while count < limit and rounds < 4 and affordable do
  local room = limit - count
  local width = rounds == 0 and room or 1000
  local range = call('ZRANGEBYSCORE', scheduled, MIN_DUE, digits(now), 'WITHSCORES', 'LIMIT', skip, width)
  if #range == 0 then
    break
  end
  skip, rounds = skip + #range / 2, rounds + 1
  local free = lease(rounds == 1 and range or free_of(range, room))
  local is_whole = rounds == 1 and #free == #range
  if is_whole and is_plain then
    entries, count, side_by_side = range, #range / 2, #range / 2
  else
    local ids, scores = ids_and_scores(free)
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
    side_by_side = is_whole and #ids or 0
  end
end

if count > 0 then
  call('HSET', meta, 'token', token)
elseif has_lease then -- what is due is all leased
  call('ZREM', leases, token)
end
if #taken > 0 or side_by_side > 0 then
  write_batch()
  -- The sources, now that all destinations are written; the payloads last, since without its payload an id is not whole.
  if side_by_side > 0 then
    remove_earliest(side_by_side)
  else
    call('ZREM', scheduled, unpack(taken))
  end
  if next(by_id) then
    call('HDEL', payload, unpack(taken))
  end
end
end_leases(touched)

-- Two strings an id less to be copied into the reply, and to be read from it: 0.5 µs less an id, and 0.4 here.
local as_one = ARGV[6] == 'packed'
return {
  now_us,
  count > 0 and tonumber(token) or 0,
  spend(count),
  impossible(),
  (count == wanted or more_lost or not affordable) and 1 or 0,
  as_one and packed or entries,
  next(by_id) and not as_one and payloads or {},
  any_record and records or {},
  state.canary,
  keep_canary(state.canary, count > 0, now, now_us),
  state.shards,
}
