-- retry: the attempts failed; the ids are due again after a delay, or dead once their failures reach
-- max_attempts. Payload, original deadline and the count of attempts stay with the id.
-- KEYS   the eight of lib.lua
-- ARGV   1 now
--        2 max_attempts
--        3… at most 250 times id, token, delay in ms, error (text for people)
-- Reply  for each item: when it is due again in ms; 0 stale; -1 dead, its attempts are spent;
--        -2 done, because the id was registered anew meanwhile and that deadline stands
guard()
local now = clock(ARGV[1])
local max_attempts = tonumber(ARGV[2])
local reply, touched = {}, {}

local function retry(id, token, delay_ms, message)
  if not holds(id, token) then
    return 0
  elseif superseded(id, token, touched) then
    return -2
  end
  local record = record_of(id, batch_of(token).scores[id] or now, token)
  record.failures, record.error = record.failures + 1, message
  local spent = record.failures >= max_attempts
  local retry_at = math.min(now + tonumber(delay_ms), MAX_DUE)
  record.reason = spent and 'attempts_spent' or nil
  record.retry = not spent and digits(retry_at) or nil
  call('HSET', attempts, id, cjson.encode(record))
  restore_payload(id, token)
  if spent then
    call('ZADD', dead, digits(now), id)
  else
    call('ZADD', scheduled, digits(retry_at), id)
  end
  unlease(id, token, touched)
  return spent and -1 or retry_at
end

for i = 3, #ARGV, 4 do
  reply[#reply + 1] = retry(unpack(ARGV, i, i + 3))
end
end_leases(touched)
return reply
