-- order_list: one page of the ids of the orders with a status: of created ones in the order of their deadlines, of
-- others in that in which they came to it. Writes nothing.
-- KEYS   those of order_lib.lua, without orders
-- ARGV   1 status: created, paid, cancelled or expired
--        2 limit, 1 to 100
--        3 score and 4 id of the last row of the page before, '' and '' for the first page
-- Reply  1 whether more may follow, 1 or 0
--        2 id, score, …
local set, limit = settled_sets[ARGV[1]] or scheduled, tonumber(ARGV[2])
local first = place_behind(set, ARGV[3], ARGV[4])
local range = call('ZRANGE', set, first, first + limit - 1, 'WITHSCORES')
return { #range == 2 * limit and 1 or 0, range }
