-- lock_acquire: takes a lock that is free, with a fencing number that is larger than every one before it. A token that
-- holds the lock already gets its answer again and its whole ttl: a call whose reply was lost may be repeated.
-- KEYS   1 lock   STRING  the token of the holder; goes with its ttl
--        2 fence  STRING  the last fencing number; has no ttl, since it must outlive every holder
-- ARGV   1 token
--        2 ttl in ms
-- Reply  1, the fencing number; or 0, what the holder's ttl has left in ms (-1: the key has no ttl)
local lock, fence = KEYS[1], KEYS[2]
local token, ttl = ARGV[1], ARGV[2]
-- Above it Lua skips integers, and a number would be handed out twice.
local MAX_FENCE = 9007199254740991

local holder = redis.call('GET', lock)
local last = tonumber(redis.call('GET', fence) or 0)
if holder and holder ~= token then
  return { 0, redis.call('PTTL', lock) }
end
if not last or last < 0 or last >= MAX_FENCE or last % 1 ~= 0 then
  return redis.error_reply('ERR overdue: ' .. fence .. ' does not hold a fencing number')
end

local number = last
if holder ~= token or last == 0 then
  -- The time lets it grow where the last number was lost; the last number, where the clock stepped back.
  local time = redis.call('TIME')
  number = math.max(last + 1, time[1] * 1000000 + time[2])
  redis.call('SET', fence, string.format('%.0f', number))
end
redis.call('SET', lock, token, 'PX', ttl)
return { 1, number }
