-- departed: forgets a batch that has arrived, so that the next one may leave.
-- KEYS   the eight of lib.lua, and
--        9 moving  HASH  see depart.lua
-- ARGV   1 number of the batch
-- Reply  1 if it was forgotten, 0 if it is not there any more
guard()
local batch = call('HGET', KEYS[9], '\0batch') or ''
if batch:match('^%d+') ~= ARGV[1] then
  return 0
end
call('DEL', KEYS[9])
return 1
