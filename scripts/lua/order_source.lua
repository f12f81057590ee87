-- order_source: reads keys of others that are to become orders, for order_adopt.
-- KEYS   those of order_lib.lua, then at most 100 keys of any type and name
-- ARGV   1 now
-- Reply  for each key three: what source_of tells of it
local reply = {}
for i = FIRST_ORDER, #KEYS do
  reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = source_of(KEYS[i])
end
return reply
