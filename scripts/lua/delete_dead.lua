-- delete_dead: removes dead ids for good, payload and record with them.
-- KEYS   the eight of lib.lua
-- ARGV   at most 1000 ids
-- Reply  for each id 1 deleted or 0 not dead
guard()
local reply = {}
for i, id in ipairs(ARGV) do
  reply[i] = forget_dead(id)
end
return reply
