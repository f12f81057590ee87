-- delete_dead: removes dead ids for good, payload and record with them.
-- KEYS   the eight of lib.lua
-- ARGV   at most 1000 ids
-- Reply  for each id 1 deleted or 0 not dead
guard()
local reply = {}
for i, id in ipairs(ARGV) do
  reply[i] = call('ZREM', dead, id)
  if reply[i] == 1 and not call('ZSCORE', scheduled, id) then -- else they are a new registration's
    call('HDEL', attempts, id)
    call('HDEL', payload, id)
  end
end
return reply
