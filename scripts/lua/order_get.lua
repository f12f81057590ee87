-- order_get: orders with the deadlines that hold. Writes nothing.
-- KEYS   those of order_lib.lua, with one order for each id of ARGV
-- ARGV   at most 100 ids
-- Reply  for each id two: its deadline in ms, 0 if it is not scheduled; the order, empty if there is none
local reply = {}
for i, id in ipairs(ARGV) do
  local order = KEYS[FIRST_ORDER + i - 1]
  local status = status_of(order)
  reply[#reply + 1] = status and known_due(call('ZSCORE', scheduled, id) or 0) or 0
  reply[#reply + 1] = status and call('HGETALL', order) or {}
end
return reply
