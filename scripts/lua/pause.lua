-- pause: stops or restarts claiming, for all processes of the queue. What is in flight goes on, registering
-- and cancelling too.
-- KEYS   the eight of lib.lua
-- ARGV   1 1 to pause, 0 to resume
-- Reply  1 if that changed anything, else 0
guard()
local was = call('HGET', meta, 'paused') and '1' or '0'
if ARGV[1] == '1' then
  call('HSET', meta, 'paused', '1')
else
  call('HDEL', meta, 'paused')
end
return was == ARGV[1] and 0 or 1
