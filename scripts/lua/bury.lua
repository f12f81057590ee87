-- bury: puts leased ids aside in the dead set, where they stay until somebody retries or deletes them.
-- KEYS   the eight of lib.lua
-- ARGV   1 now
--        2… at most 250 times id, token, reason (a fixed word), error (text for people)
-- Reply  for each item 1 done or 0 stale
guard()
local now = clock(ARGV[1])
local reply, touched = {}, {}

local function bury(id, token, reason, message)
  if not holds(id, token) then
    return 0
  elseif not superseded(id, token, touched) then
    local record = record_of(id, batch_of(token).scores[id] or now, token)
    record.failures, record.reason, record.error, record.retry = record.failures + 1, reason, message, nil
    call('HSET', attempts, id, cjson.encode(record))
    restore_payload(id, token)
    call('ZADD', dead, digits(now), id)
    unlease(id, token, touched)
  end
  return 1
end

for i = 2, #ARGV, 4 do
  reply[#reply + 1] = bury(unpack(ARGV, i, i + 3))
end
end_leases(touched)
return reply
