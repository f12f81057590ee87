-- reschedule: moves the deadline of an id that is scheduled; payload and trace kept, attempts start anew.
-- KEYS   the eight of lib.lua
-- ARGV   1 now
--        2 id
--        3 due (ms, or +ms from now)
--        4 expected: '' anything, else the score that the id must have
-- Reply  three integers: code, the deadline that holds now, the one before (0 where there is none)
--        0 not found  1 moved  2 in flight  3 dead  4 conflict with `expected`
--        -ERR if the deadline is outside the contract: nothing was written
local now = clock(ARGV[1])
local id, due, expected = ARGV[2], due_argument(ARGV[3], now), ARGV[4]
if not due then
  return redis.error_reply(BAD_DUE)
end

local old = call('ZSCORE', scheduled, id)
local in_flight, buried = call('ZSCORE', leased, id), call('ZSCORE', dead, id)
if not old then
  return { in_flight and 2 or buried and 3 or 0, 0, 0 }
end
old = tonumber(old)
if expected ~= '' and old ~= tonumber(expected) then
  return { 4, known_due(old), known_due(old) }
end
local have_pasts = call('HLEN', attempts) > 0
call('ZADD', scheduled, digits(due), id)
if have_pasts then
  local past = past_of(id)
  if past and past.trace and tonumber(past.retry) == old then
    call('HSET', attempts, id, trace_record(past.trace, due))
  else
    call('HDEL', attempts, id)
  end
end
if buried then -- a plain ZADD had revived it; without its record nothing else would tell
  call('ZREM', dead, id)
end
return { 1, due, known_due(old) }
