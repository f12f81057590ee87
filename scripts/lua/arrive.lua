-- arrive: takes in a batch that departed from another shard, once, however often and by whomever it is brought.
-- KEYS   the eight of lib.lua
-- ARGV   1 the shard it comes from
--        2 number of the batch
--        3 the last token there: tokens of an id grow wherever it is
--        4… id and entry, as `moving` has them, see depart.lua
-- Reply  1 if it was taken in, 0 if that had been done
guard()
local arrived, number = 'arrived:' .. ARGV[1], tonumber(ARGV[2])
local state = call('HMGET', meta, arrived, 'token')
if tonumber(state[1] or 0) >= number then
  return 0
end
for i = 4, #ARGV, 2 do
  local id, entry = ARGV[i], cmsgpack.unpack(ARGV[i + 1])
  local kind, score, text, record = unpack(entry)
  local is_scheduled = call('ZSCORE', scheduled, id)
  -- Somebody wrote it here with plain commands meanwhile: that is the newer one, as with a registration of a dead id.
  if not is_scheduled and (kind == 's' or not call('ZSCORE', leased, id)) then
    if text then
      call('HSET', payload, id, text)
    end
    if record then
      call('HSET', attempts, id, record)
    else
      call('HDEL', attempts, id)
    end
    call('ZADD', kind == 's' and scheduled or dead, score, id)
    if kind == 's' then
      call('ZREM', dead, id)
    end
  end
end
call('HSET', meta, arrived, ARGV[2])
if tonumber(ARGV[3]) > tonumber(state[2] or 0) then
  call('HSET', meta, 'token', ARGV[3])
end
return 1
