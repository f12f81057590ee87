-- trim_dead: removes the ids that have been dead for longest, payload and record with them. Only called for a
-- queue whose owner has set a retention.
-- KEYS   the eight of lib.lua
-- ARGV   1 now
--        2 retention in ms: younger ones stay
--        3 limit, 1 to 1000
-- Reply  how many were removed; as many as the limit means that there may be more
guard()
local before = clock(ARGV[1]) - tonumber(ARGV[2])
local ids = call('ZRANGEBYSCORE', dead, '-inf', '(' .. digits(before), 'LIMIT', 0, ARGV[3])
for _, id in ipairs(ids) do
  forget_dead(id)
end
return #ids
