-- lock_extend: gives the holder of a lock its whole ttl again.
-- KEYS   1 lock  STRING  the token of the holder
-- ARGV   1 token
--        2 ttl in ms
-- Reply  1 done, 0 nobody holds the lock, -1 another does
local holder = redis.call('GET', KEYS[1])
if holder ~= ARGV[1] then
  return holder and -1 or 0
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
