-- adopt: takes over the expiry of keys that belong to others: the TTL becomes a deadline and goes, in one step. So each
-- key either expires in the old way or has a deadline, never both and never neither.
-- KEYS   the eight of lib.lua, then one for each id of ARGV: a key of any type and name
-- ARGV   1 how: move; keep_ttl (the TTL stays beside the deadline); look (writes nothing)
--        2… at most 1000 ids
-- Reply  for each id two integers: code, the deadline that holds in ms (0 none or unknown)
--        1 adopted (for look: would be)  2 adopted before  3 has neither a TTL nor a deadline
--        4 gone: expired in the old way, or deleted  5 its TTL ends outside the contract
-- Refused with -OOM when Redis is full. While a key has a TTL, that says when it is due; but of that and the deadline
-- of an id that is scheduled already the later one holds, so that no renewal fires early.
local how, FIRST_KEY = ARGV[1], 9

-- Reads check the types, so that no write below can fail halfway.
for _, zset in ipairs({ scheduled, leased, dead }) do
  call('ZCARD', zset)
end
for _, hash in ipairs({ payload, attempts }) do
  call('HLEN', hash)
end

local function register(id, due, is_new)
  call('ZADD', scheduled, digits(due), id)
  call('HDEL', attempts, id)
  call('ZREM', dead, id)
  if is_new then -- what a plain ZREM left behind is not this registration's
    call('HDEL', payload, id)
  end
end

local function adopt(id, key)
  local due = expiry_of(key)
  local score = call('ZSCORE', scheduled, id)
  local held = score and known_due(score) or 0
  if due == -2 then
    return 4, held
  elseif due == -1 then
    local known = score or call('ZSCORE', leased, id) or call('ZSCORE', dead, id)
    return known and 2 or 3, held
  elseif due < MIN_DUE or due > MAX_DUE then
    return 5, held
  elseif how == 'keep_ttl' and due <= held then
    return 2, held
  end
  if how ~= 'look' and due > held then
    register(id, due, not score)
  end
  if how == 'move' then
    call('PERSIST', key)
  end
  return 1, math.max(due, held)
end

local reply = {}
for i = 2, #ARGV do
  reply[#reply + 1], reply[#reply + 2] = adopt(ARGV[i], KEYS[FIRST_KEY + i - 2])
end
return reply
