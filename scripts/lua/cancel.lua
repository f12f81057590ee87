-- cancel: takes ids out of the queue. One that is in flight cannot be called back, but gets no further
-- attempt: its lease ends here, so the running delivery is told `stale`.
-- KEYS   the eight of lib.lua
-- ARGV   1 now
--        2… at most 1000 ids
-- Reply  for each id three integers: code and two values
--        0 not found, 0, 0             1 cancelled, the deadline it had, 0
--        2 in flight, token, ms left   3 dead (left as it is), when it was buried, 0
guard()
local now = clock(ARGV[1])

local function in_flight(id, touched)
  local token = call('ZSCORE', leased, id)
  if not token then
    return nil
  end
  token = digits(token)
  local left = tonumber(call('ZSCORE', leases, token) or now) - now
  unlease(id, token, touched)
  return tonumber(token), math.max(left, 0)
end

local reply, touched = {}, {}
local function answer(code, first, second)
  reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = code, first, second
end
for i = 2, #ARGV do
  local id = ARGV[i]
  local score = call('ZSCORE', scheduled, id)
  local token, left = in_flight(id, touched)
  if score or token then
    local past = past_of(id)
    local retrying = past and tonumber(past.retry) == tonumber(score or 0)
    call('ZREM', scheduled, id)
    call('HDEL', payload, id)
    call('HDEL', attempts, id)
    call('ZREM', dead, id)
    if token then
      answer(2, token, left)
    else
      answer(1, known_due(retrying and past.due or score), 0)
    end
  else
    local buried_at = call('ZSCORE', dead, id)
    answer(buried_at and 3 or 0, tonumber(buried_at or 0), 0)
  end
end
end_leases(touched)
return reply
