-- depart: takes ids out of this shard for another one. Until they have arrived there, they wait in `moving`, and whoever
-- finds them there brings them in (arrive, then departed); until that is done no other batch leaves this shard.
-- KEYS   the eight of lib.lua, and
--        9 moving  HASH  id -> cmsgpack {'s' or 'd' as it is scheduled or dead, score, payload or false, record or false},
--                        and '\0batch' -> 'number to token': of the batch, of the shard, and the last token here
-- ARGV   1 now
--        2 the shards that `meta` has to have, see shards.lua
--        3 the shard they go to
--        4 ms: an id that is due sooner stays, so that none is late
--        5… at most 1000 ids
-- Reply  1 how many left, -1 if an earlier batch is still on its way
--        2 how many of the ids were looked at: a batch ends early at 4 MiB of payloads
--        3 how many of them are here and stay: they are leased, or due soon
--        -ERR overdue: other shards, if `meta` has others
guard()
local moving = KEYS[9]
call('HDEL', moving, NOBODY)
local now, now_us = clock(ARGV[1])
local state = call('HMGET', meta, 'shards', 'moved', 'token')
if (state[1] or '') ~= ARGV[2] then
  return redis.error_reply('ERR overdue: other shards')
elseif call('HLEN', moving) > 0 then
  return { -1, 0, 0 }
end

local ids = { unpack(ARGV, 5) }
local texts, count = payloads_of(ids)
local scores, holders, buried = call('ZMSCORE', scheduled, unpack(ids)), call('ZMSCORE', leased, unpack(ids)),
  call('ZMSCORE', dead, unpack(ids))
local pasts = call('HMGET', attempts, unpack(ids))
local soon = now + tonumber(ARGV[4])
local entries, leaving, staying = {}, {}, 0
for i = 1, count do
  local id, due = ids[i], scores[i] and known_due(scores[i])
  -- What can never fire stays for `reject`.
  if holders[i] or due and due <= soon then
    staying = staying + 1
  elseif due or buried[i] then
    local entry = { due and 's' or 'd', scores[i] or buried[i], texts[id] or false, pasts[i] }
    entries[#entries + 1], entries[#entries + 2] = id, cmsgpack.pack(entry)
    leaving[#leaving + 1] = id
  end
end
if #leaving > 0 then
  local number = digits(math.max(tonumber(state[2] or 0) + 1, now_us))
  call('HSET', meta, 'moved', number)
  call('HSET', moving, '\0batch', number .. ' ' .. ARGV[3] .. ' ' .. (state[3] or 0), unpack(entries))
  call('ZREM', scheduled, unpack(leaving))
  call('ZREM', dead, unpack(leaving))
  call('HDEL', payload, unpack(leaving))
  call('HDEL', attempts, unpack(leaving))
end
return { #leaving, count, staying }
