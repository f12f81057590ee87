-- order_trim: removes settled orders that were kept for long enough, and their places in the list. Most orders went by
-- their own TTL before; one that was settled by somebody who knew of no retention goes here. Only called for a queue
-- whose owner has set a retention.
-- KEYS   those of order_lib.lua, with one order for each id of ARGV
-- ARGV   1 now
--        2 for how many ms settled orders are kept
--        3 status: paid, cancelled or expired
--        4… at most 100 ids
-- Reply  how many places were removed
guard_orders()
local before = clock(ARGV[1]) - tonumber(ARGV[2])
local status, removed = ARGV[3], 0
local set = settled_sets[status]
for i = 4, #ARGV do
  local id, order = ARGV[i], KEYS[FIRST_ORDER + i - 4]
  local settled_at = tonumber(call('ZSCORE', set, id) or before)
  if settled_at < before then
    -- The id may be a newer order's by now.
    if status_of(order) == status and tonumber(call('HGET', order, status .. '_at')) == settled_at then
      call('UNLINK', order)
    end
    removed = removed + call('ZREM', set, id)
  end
end
return removed
