-- order_trim: removes from the lists of settled orders those that were kept for long enough (the orders themselves
-- went by their TTL), and the oldest events beyond a limit. Only called where their owner has set one.
-- KEYS   those of order_lib.lua, without orders
-- ARGV   1 now
--        2 for how many ms settled orders are kept; '' for ever
--        3 the most events that are kept, '' for all: older ones are removed, read or not
--        4 limit, 1 to 1000 ids of each list
-- Reply  how many ids were removed from the longest list; as many as the limit means that there may be more
guard_orders()
local now = clock(ARGV[1])
local most = 0
if ARGV[2] ~= '' then
  local before = '(' .. digits(now - tonumber(ARGV[2]))
  for _, set in pairs(settled_sets) do
    local ids = call('ZRANGEBYSCORE', set, '-inf', before, 'LIMIT', 0, ARGV[4])
    if #ids > 0 then
      call('ZREM', set, unpack(ids))
    end
    most = math.max(most, #ids)
  end
end
if ARGV[3] ~= '' then
  call('XTRIM', events, 'MAXLEN', '~', ARGV[3])
end
return most
