-- order_counts: how many orders have come to which end and are still listed. Writes nothing.
-- KEYS   those of order_lib.lua, without orders
-- ARGV   none
-- Reply  1 paid  2 cancelled  3 expired  4 entries in the stream of events
return { call('ZCARD', paid), call('ZCARD', cancelled), call('ZCARD', expired), call('XLEN', events) }
