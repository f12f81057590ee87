-- retry_dead: schedules dead ids again, with their payload and original deadline, and all attempts before them.
-- KEYS   the eight of lib.lua
-- ARGV   1 now
--        2… at most 1000 ids
-- Reply  for each id 1 due now or 0 not dead
guard()
local now = clock(ARGV[1])
local reply = {}

local function retry(id)
  if not call('ZSCORE', dead, id) then
    return 0
  end
  local record = past_of(id) or {}
  if record.due and not call('ZSCORE', scheduled, id) then
    record.failures, record.crashes, record.kills, record.retry = 0, 0, 0, digits(now)
    record.reason, record.error = nil, nil
    call('HSET', attempts, id, cjson.encode(record))
    call('ZADD', scheduled, digits(now), id)
  else -- it never had a valid deadline, or was registered anew by a plain ZADD: that one stands
    call('ZADD', scheduled, 'NX', digits(now), id)
    call('HDEL', attempts, id)
  end
  call('ZREM', dead, id)
  return 1
end

for i = 2, #ARGV do
  reply[#reply + 1] = retry(ARGV[i])
end
return reply
