-- ack: the deliveries are done; their ids are gone from the queue and free for a new registration.
-- KEYS   the eight of lib.lua
-- ARGV   at most 1000 times id, token. The id '' speaks for all of a claim that its token still holds: at most four
--        times, since each may be 1000 ids
-- Reply  for each pair 1 done or 0 stale (the lease was lost, or the id was cancelled); for '' how many were done
guard()
local ids, tokens, places, reply, touched = {}, {}, {}, {}, {}
local any_record = call('HLEN', attempts) > 0

-- A record ends with its delivery, except that of an id which was registered anew meanwhile.
local function drop_records(done)
  if not any_record or #done == 0 then
    return
  end
  local over = {}
  for i, score in ipairs(call('ZMSCORE', scheduled, unpack(done))) do
    if score then
      drop_record(done[i], score)
    else
      over[#over + 1] = done[i]
    end
  end
  if #over > 0 then
    call('HDEL', attempts, unpack(over))
  end
end

-- All members of one score stand side by side: no id has to be sent, found or answered. 2.4 µs less an id.
local function ack_claim(token)
  local ids = call('ZRANGEBYSCORE', leased, token, token, 'LIMIT', 0, any_record and 1000 or 1)
  if #ids == 0 then
    return 0
  end
  local first, held = call('ZRANK', leased, ids[1]), call('ZCOUNT', leased, token, token)
  local count = call('ZREMRANGEBYRANK', leased, first, first + math.min(held, 1000) - 1)
  drop_records(ids)
  return count
end

for i = 1, #ARGV, 2 do
  local id, token, place = ARGV[i], ARGV[i + 1], (i + 1) / 2
  if id == '' then
    reply[place] = ack_claim(token)
    touched[token] = true
  else
    local n = #ids + 1
    ids[n], tokens[n], places[n] = id, token, place
  end
end

if #ids > 0 then
  local done = {}
  local holders = call('ZMSCORE', leased, unpack(ids))
  for i, id in ipairs(ids) do
    local is_held = tonumber(holders[i] or 0) == tonumber(tokens[i])
    reply[places[i]] = is_held and 1 or 0
    if is_held then
      done[#done + 1] = id
      touched[tokens[i]] = true
    end
  end
  if #done > 0 then
    call('ZREM', leased, unpack(done))
    drop_records(done)
  end
end
end_leases(touched)
return reply
