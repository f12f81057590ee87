-- shards: tells one shard of a queue how the queue is spread, or only asks it. The shards of a queue have keys of their own:
-- {orders}, {orders#1}, {orders#2}, …, and each of them is all that lib.lua says. An id is in one of them. A new one goes
-- to its home, which is the CRC16 of the id modulo the number of homes, as Redis computes that of a key.
-- What `meta` has of it:
--   shards       'epoch homes all moving': how many shards are homes, how many there are (more, while ids are on their way),
--                and 1 while they are. The first shard decides: it is told first, and the highest epoch holds
--   moved        the number of the last batch that left
--   arrived:K    the number of the last batch that came in from shard K
-- KEYS   the eight of lib.lua, and
--        9 moving  HASH  of what departed, see depart.lua
-- ARGV   1 the shards; '' to ask
--        2 1 to pause the shard, 0 to resume it, '' to leave that
-- Reply  1 the shards that hold here now, '' for a queue of one  2 1 if it is paused, else 0
--        3 ms since its canary was written (see lib.lua), nil if it has none
--        4 1 if it has to be told again, when what left it has arrived: that goes where home was before. Else 0
guard()
local now = clock('')
local state = call('HMGET', meta, 'shards', 'paused', 'canary')
local held = state[1] or ''
local function epoch_of(shards)
  return tonumber(shards:match('^(%d+) ') or 0)
end
local is_news = epoch_of(ARGV[1]) > epoch_of(held)
local waits = is_news and call('HLEN', KEYS[9]) > 0
if is_news and not waits then
  held = ARGV[1]
  call('HSET', meta, 'shards', held)
end
local paused = state[2]
if ARGV[2] == '1' and not paused then
  paused = '1'
  call('HSET', meta, 'paused', paused)
elseif ARGV[2] == '0' and paused then
  paused = nil
  call('HDEL', meta, 'paused')
end
local _, _, at = parts_of_canary(state[3])
return { held, paused and 1 or 0, at and math.max(now - tonumber(at), 0) or false, waits and 1 or 0 }
