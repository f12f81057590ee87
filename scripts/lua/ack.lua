-- ack: the deliveries are done; their ids are gone from the queue and free for a new registration.
-- KEYS   the eight of lib.lua
-- ARGV   at most 1000 times id, token
-- Reply  for each pair 1 done or 0 stale (the lease was lost, or the id was cancelled)
guard()
local ids, tokens = {}, {}
for i = 1, #ARGV, 2 do
  ids[#ids + 1], tokens[#tokens + 1] = ARGV[i], ARGV[i + 1]
end
if #ids == 0 then
  return {}
end

local reply, done, touched = {}, {}, {}
local holders = call('ZMSCORE', leased, unpack(ids))
for i, id in ipairs(ids) do
  if tonumber(holders[i] or 0) == tonumber(tokens[i]) then
    reply[i] = 1
    done[#done + 1] = id
    touched[tokens[i]] = true
  else
    reply[i] = 0
  end
end
if #done > 0 then
  call('ZREM', leased, unpack(done))
  if call('HLEN', attempts) > 0 then
    local over = {}
    for i, score in ipairs(call('ZMSCORE', scheduled, unpack(done))) do
      if score then -- registered anew meanwhile
        drop_record(done[i], score)
      else
        over[#over + 1] = done[i]
      end
    end
    if #over > 0 then
      call('HDEL', attempts, unpack(over))
    end
  end
  end_leases(touched)
end
return reply
