-- reject: moves entries with an impossible score, which a foreign client wrote, to the dead set. One whose
-- id is still leased from before waits until that lease ends.
-- KEYS   the eight of lib.lua
-- ARGV   1 now
--        2 limit, 1 to 1000 ids
-- Reply  how many were moved
guard()
local now = clock(ARGV[1])
local limit = tonumber(ARGV[2])
local moved = 0

local function reject(from, to, why)
  local range = call('ZRANGEBYSCORE', scheduled, from, to, 'WITHSCORES', 'LIMIT', 0, limit - moved)
  for i = 1, #range, 2 do
    local id, score = range[i], range[i + 1]
    if not call('ZSCORE', leased, id) then
      local message = 'score ' .. score .. ' cannot be milliseconds since the epoch: ' .. why
      local record = { failures = 0, crashes = 0, reason = 'impossible_score', error = message }
      call('HSET', attempts, id, cjson.encode(record))
      call('ZADD', dead, digits(now), id)
      call('ZREM', scheduled, id)
      moved = moved + 1
    end
  end
end

reject('-inf', '(' .. digits(MIN_DUE), 'it is below 1e11, as a time in seconds is')
reject('(' .. digits(MAX_DUE), '+inf', 'it is past the year 9999')
return moved
