-- order_adopt: makes orders of hashes that belong to others, and their TTL the deadline: order, event, deadline and the
-- removal of the TTL in one step, if a hash is still as order_source read it. The hash stays, without its TTL. Refused
-- with -OOM when Redis is full.
-- KEYS   those of order_lib.lua, with one order for each item of ARGV, then as many keys of the hashes
-- ARGV   1 now
--        2 how: move; keep_ttl (the TTL stays beside the deadline); look (writes nothing)
--        3 count of items, at most 100
--        4… for each item its expiry and its digest as order_source told them
--        then the orders as order_create takes them, each with the expiry as its deadline; of a key without a TTL any
-- Reply  for each item two integers: code, the deadline that holds in ms (0 none or unknown)
--        1 adopted (for look: would be)  3 has no TTL, and there is no order
--        2 adopted before; if the order is settled, the hash keeps a TTL that somebody gave it since
--        4 another TTL or other fields than order_source read: read it again
--        5 there is an order of this id with other fields  6 the key of the order holds no order
--        7 adopted before, but its fields were changed since, and the order was neither paid nor cancelled
--        -ERR if an id, a deadline or a field is outside the contract: nothing was written
local now = clock(ARGV[1])
local how, count = ARGV[2], tonumber(ARGV[3])

local items, refused = orders_of(4 + 2 * count, now)
if not items then
  return refused
end
local create, schedule = creator(now)
local moved = {}

-- A renewal of the TTL moves the deadline; of two the later one holds.
local function follow(item, held)
  if item.due > held then
    call('ZADD', scheduled, digits(item.due), item.id)
    call('HSET', item.order, 'due_at', digits(item.due))
    call('HDEL', attempts, item.id)
    call('ZREM', dead, item.id)
  end
end

local function adopt(item, key, expiry, seen)
  local score = call('ZSCORE', scheduled, item.id)
  local held = score and known_due(score) or 0
  local expiry_now, seen_now = source_of(key)
  if expiry_now ~= expiry or seen_now ~= seen then
    return 4, held
  end
  local digest = digest_of(item.fields)
  local status, wrong = status_of(item.order)
  local same = status and call('HGET', item.order, 'digest') == digest
  if wrong then
    return expiry == -1 and 3 or 6, held
  elseif expiry == -1 then
    local harmless = same or status == 'paid' or status == 'cancelled'
    return not status and 3 or harmless and 2 or 7, held
  elseif status and not same then
    return 5, held
  elseif status and status ~= 'created' then
    return 2, 0
  elseif status and how == 'keep_ttl' and item.due <= held then
    return 2, held
  end
  if how ~= 'look' then
    if status then
      follow(item, held)
    else
      create(item, digest)
    end
  end
  if how == 'move' then
    moved[#moved + 1] = key
  end
  return 1, math.max(item.due, held)
end

local reply = {}
for i, item in ipairs(items) do
  local key, expiry, seen = KEYS[FIRST_ORDER + count + i - 1], tonumber(ARGV[2 + 2 * i]), ARGV[3 + 2 * i]
  reply[#reply + 1], reply[#reply + 2] = adopt(item, key, expiry, seen)
end
schedule()
for _, key in ipairs(moved) do -- the source, now that the deadlines are written
  call('PERSIST', key)
end
return reply
