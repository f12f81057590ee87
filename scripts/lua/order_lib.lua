-- order_lib: what the order verbs share. It stands between lib.lua and the verb:
--   cat scripts/lua/{lib,order_lib,order_pay}.lua | redis-cli -x SCRIPT LOAD
--
-- KEYS   the eight of lib.lua, then the same six for every order verb, then one for each order that it names
--    9 events      STREAM  entries: type (created, paid, cancelled or expired), id, at (ms)
--   10 paid, 11 cancelled, 12 expired  ZSET  id -> when it came to that, in ms
--   13 notify_scheduled, 14 notify_payload  `scheduled` and `payload` of the queue that tells of expired orders
--   15… order      HASH  status (created, paid, cancelled or expired), created_at, due_at, paid_at, cancelled_at,
--                        expired_at (ms), digest (of the fields it was created with), and the caller's fields
-- ARGV   as the verb says, in the ways of lib.lua
-- Reply  as the verb says; an order is a flat list of field and value, empty if there is none

local events, paid, cancelled, expired, notify_scheduled, notify_payload = unpack(KEYS, 9, 14)
local FIRST_ORDER = 15
local settled_sets = { paid = paid, cancelled = cancelled, expired = expired }

-- guard() for all keys but the orders, which are checked one by one: a wrong one must not stop the others.
local function guard_orders()
  guard()
  for _, zset in ipairs({ paid, cancelled, expired, notify_scheduled }) do
    call('ZREM', zset, NOBODY)
  end
  call('HDEL', notify_payload, NOBODY)
  call('XDEL', events, '0-0') -- no entry can have this number
end

-- What the script itself writes into an order.
local RESERVED = { digest = true, status = true, created_at = true, due_at = true, paid_at = true,
  cancelled_at = true, expired_at = true }
local MAX_FIELDS, MAX_BYTES = 100, 30 * 1024 -- As in order/fields.rs

-- A reply of error if the fields, a flat list of name and value, are outside the contract, else nil.
local function wrong_fields(fields)
  local bytes = 0
  for i = 1, #fields, 2 do
    bytes = bytes + #fields[i] + #fields[i + 1]
    if RESERVED[fields[i]] then
      return redis.error_reply('ERR overdue: ' .. fields[i] .. ' is a field of overdue; name yours otherwise')
    end
  end
  if #fields > 2 * MAX_FIELDS or bytes > MAX_BYTES then
    return redis.error_reply('ERR overdue: an order has at most 100 fields, and at most 30 KiB in them')
  end
end

-- The orders that ARGV names from `at` on: id, due (ms, or +ms from now), count of fields, and so many times name,
-- value. Or nil and a reply of error if one of them is outside the contract.
local function orders_of(at, now)
  local items = {}
  while at <= #ARGV do
    local id, due, count = ARGV[at], due_argument(ARGV[at + 1], now), tonumber(ARGV[at + 2])
    local fields = { unpack(ARGV, at + 3, at + 2 + 2 * math.min(count, MAX_FIELDS + 1)) }
    local wrong = wrong_fields(fields)
    if wrong then
      return nil, wrong
    elseif #id == 0 or #id > 256 then
      return nil, redis.error_reply('ERR overdue: an id has 1 to 256 bytes')
    elseif not due then
      return nil, redis.error_reply(BAD_DUE)
    end
    items[#items + 1] = { id = id, due = due, fields = fields, order = KEYS[FIRST_ORDER + #items] }
    at = at + 3 + 2 * count
  end
  return items
end

-- Tells orders with the same fields from others. The order of the fields is of no importance; the lengths keep
-- {ab, c} and {a, bc} apart. 64 bits are enough: only orders of one id are ever compared.
local function digest_of(fields)
  local parts = {}
  for i = 1, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    parts[#parts + 1] = #name .. ':' .. name .. #value .. ':' .. value
  end
  table.sort(parts)
  return redis.sha1hex(table.concat(parts)):sub(1, 16)
end

-- A key of somebody else that is to become an order: when it expires in ms (-1 has no TTL, -2 gone, -3 no hash, -4 far
-- larger than an order can be), a digest of its fields, and the fields as a flat list.
local function source_of(key)
  local expiry = expiry_of(key)
  if expiry == -2 then
    return -2, '', {}
  end
  -- Before it is read: four times as much as an order may hold, since overheads count here.
  local wrong = call('TYPE', key).ok ~= 'hash' and -3
    or (call('HLEN', key) > 2 * MAX_FIELDS or call('MEMORY', 'USAGE', key, 'SAMPLES', 0) > 4 * MAX_BYTES) and -4
  if wrong then -- of what has no TTL nothing is wanted
    return expiry == -1 and -1 or wrong, '', {}
  end
  local fields = call('HGETALL', key)
  return expiry, digest_of(fields), fields
end

-- The status of an order: false if there is none, nil and a reason (a fixed word) if the key is no order.
local function status_of(order)
  local status = redis.pcall('HGET', order, 'status')
  if type(status) == 'table' then
    return nil, 'wrong_type'
  elseif status == 'created' or settled_sets[status] then
    return status
  elseif status or call('EXISTS', order) == 1 then
    return nil, 'not_an_order'
  end
  return false
end

local function tell(kind, id, now)
  call('XADD', events, '*', 'type', kind, 'id', id, 'at', digits(now))
end

-- The status of every item by its key, as status_of tells it; of a wrong one the reason in the second table. One
-- EXISTS for all of them is what new orders cost.
local function statuses_of(items)
  local orders, statuses, wrongs = {}, {}, {}
  for i, item in ipairs(items) do
    orders[i] = item.order
  end
  if #orders > 0 and call('EXISTS', unpack(orders)) > 0 then
    for _, order in ipairs(orders) do
      statuses[order], wrongs[order] = status_of(order)
    end
  end
  return statuses, wrongs
end

-- Answers a function that gives ids their deadlines, which begin with a clean record. The reads check the types, so
-- that none of the writes can fail halfway.
local function registrar()
  call('ZCARD', scheduled)
  local have_pasts, some_dead = call('HLEN', attempts) > 0, call('ZCARD', dead) > 0
  return function(entries, ids)
    call('ZADD', scheduled, unpack(entries))
    if have_pasts then
      call('HDEL', attempts, unpack(ids))
    end
    if some_dead then
      call('ZREM', dead, unpack(ids))
    end
  end
end

-- Answers a function that creates an order that is not there yet, and one that gives all of them their deadlines, to be
-- called at the end. The reads are for what those of registrar() are.
local function creator(now)
  local register = registrar()
  call('XLEN', events)
  local have_payloads = call('HLEN', payload) > 0
  local entries, ids, now_text = {}, {}, digits(now)

  local function create(item, digest)
    local due = digits(item.due)
    call('HSET', item.order, 'status', 'created', 'created_at', now_text, 'due_at', due, 'digest', digest,
      unpack(item.fields))
    tell('created', item.id, now)
    entries[#entries + 1], entries[#entries + 2], ids[#ids + 1] = due, item.id, item.id
  end

  local function schedule()
    if #ids > 0 then
      register(entries, ids)
      if have_payloads then
        call('HDEL', payload, unpack(ids))
      end
    end
  end
  return create, schedule
end

-- Takes the order to its end. The caller removes the deadline, which is the source. `retain` is for how many ms
-- it is kept, '' for ever: only what is settled ever carries a TTL.
local function settle(order, id, status, due, now, retain)
  call('HSET', order, 'status', status, status .. '_at', digits(now), 'due_at', due)
  call('ZADD', settled_sets[status], digits(now), id)
  tell(status, id, now)
  if retain ~= '' then
    call('PEXPIRE', order, retain)
  end
end

-- What paying and cancelling have in common. ARGV and Reply stand in their headers.
local function end_order(status)
  guard_orders()
  local now = clock(ARGV[1])
  local id, retain, order = ARGV[2], ARGV[3], KEYS[FIRST_ORDER]
  local held, wrong = status_of(order)
  if not held then
    return { held == false and 0 or 5, wrong or '', now, {} }
  elseif held ~= 'created' and held ~= status then
    return { 3, '', now, call('HGETALL', order) }
  end
  local fields = { unpack(ARGV, 4) }
  local refused = wrong_fields(fields)
  if refused then
    return refused
  end
  for i = 1, #fields, 2 do
    local value = call('HGET', order, fields[i])
    -- What is added to an order that has come to this end is another payment, or another cause.
    if value ~= fields[i + 1] and (value or held == status) then
      return { 4, fields[i], now, call('HGETALL', order) }
    end
  end
  if held == status then
    return { 2, '', now, call('HGETALL', order) }
  end
  if #fields > 0 then
    call('HSET', order, unpack(fields))
  end
  local due = known_due(call('ZSCORE', scheduled, id) or 0)
  settle(order, id, status, due > 0 and digits(due) or call('HGET', order, 'due_at') or '', now, retain)
  call('ZREM', scheduled, id)
  call('HDEL', payload, id)
  call('HDEL', attempts, id)
  call('ZREM', dead, id)
  return { 1, '', now, call('HGETALL', order) }
end
