-- find: which of these ids a shard has. Writes nothing.
-- KEYS   the eight of lib.lua, and
--        9 moving  HASH  of what departed, see depart.lua
-- ARGV   1 the shards that `meta` has to have, see shards.lua
--        2… at most 1000 ids
-- Reply  for each id that is here two integers: its position, from 0, and 1 if it is scheduled, leased or dead, or 2 if it
--        is on its way to another shard
--        -ERR overdue: other shards, if `meta` has others
if (call('HGET', meta, 'shards') or '') ~= ARGV[1] then
  return redis.error_reply('ERR overdue: other shards')
end
local reply, found = {}, {}
local function seek(values, what)
  for i, value in ipairs(values) do
    if value and not found[i] then
      found[i] = true
      reply[#reply + 1], reply[#reply + 2] = i - 1, what
    end
  end
end
if #ARGV > 1 then
  for _, set in ipairs({ scheduled, leased, dead }) do
    if call('ZCARD', set) > 0 then
      seek(call('ZMSCORE', set, unpack(ARGV, 2)), 1)
    end
  end
  if call('HLEN', KEYS[9]) > 0 then
    seek(call('HMGET', KEYS[9], unpack(ARGV, 2)), 2)
  end
end
return reply
