-- coming: how many deadlines fall into each of the next stretches of time. Writes nothing; a stretch is O(log n).
-- KEYS   the eight of lib.lua
-- ARGV   1 now
--        2 how many stretches, 1 to 100
--        3 how long each is, in ms
-- Reply  the number of ids for each stretch, the nearest first; what is due by now is in none of them
local now = clock(ARGV[1])
local counts = {}
for i = 1, tonumber(ARGV[2]) do
  local from, to = now + (i - 1) * ARGV[3], now + i * ARGV[3]
  counts[i] = call('ZCOUNT', scheduled, '(' .. digits(from), digits(to))
end
return counts
