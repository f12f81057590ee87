-- lock_release: frees a lock, unless it is another's by now.
-- KEYS   1 lock  STRING  the token of the holder
-- ARGV   1 token
-- Reply  1 done, 0 nobody holds the lock, -1 another does
local holder = redis.call('GET', KEYS[1])
if holder ~= ARGV[1] then
  return holder and -1 or 0
end
redis.call('DEL', KEYS[1])
return 1
