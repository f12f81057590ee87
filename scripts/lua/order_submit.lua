-- order_submit: puts orders into the intake, from which they are created soon: entries that are due now. Submitting
-- one twice is submitting it once. Refused with -OOM when Redis is full.
-- KEYS   the eight of the queue that is the intake, the six of order_lib.lua, one order for each item of ARGV
-- ARGV   1 now
--        2 the most entries that may wait in the intake
--        3… at most 250 times id, due (ms, or +ms from now), count of fields, and so many times name, value
-- Reply  1 now in ms
--        2… for each item two: code, its deadline in ms (0 if none)
--        1 accepted  2 waits already, with the same fields  3 the order exists, with the same fields
--        4 waits or exists with other fields  5 the intake is full: try again later
--        -ERR if an id, a deadline or a field is outside the contract: nothing was written
local now = clock(ARGV[1])
local items, refused = orders_of(3, now)
if not items then
  return refused
end

local room = tonumber(ARGV[2]) - call('ZCARD', scheduled) - call('ZCARD', leased)
local have_pasts, some_dead = call('HLEN', attempts) > 0, call('ZCARD', dead) > 0
local have_payloads = call('HLEN', payload) > 0

-- What waits in the intake for an id, decoded; nil if nothing does.
local function waiting(id)
  local text = have_payloads and call('ZSCORE', scheduled, id) and call('HGET', payload, id)
  local token = not text and call('ZSCORE', leased, id)
  if token then
    text = batch_of(digits(token)).payloads[id]
  end
  local sound, entry = pcall(cjson.decode, text or '')
  return text and sound and type(entry) == 'table' and entry or nil
end

local function submit(item)
  local digest = digest_of(item.fields)
  local status, wrong = status_of(item.order)
  if wrong then
    return 4, 0
  elseif status then
    local same = call('HGET', item.order, 'digest') == digest
    return same and 3 or 4, known_due(call('HGET', item.order, 'due_at') or 0)
  end
  local entry = waiting(item.id)
  if entry then
    return entry.digest == digest and 2 or 4, known_due(entry.due_at or 0)
  elseif room < 1 then
    return 5, 0
  end
  room = room - 1
  local fields = #item.fields > 0 and item.fields or nil -- an empty list would become {}
  local text = cjson.encode({ due_at = digits(item.due), digest = digest, fields = fields })
  call('HSET', payload, item.id, text)
  call('ZADD', scheduled, digits(now), item.id)
  have_payloads = true
  if have_pasts then
    call('HDEL', attempts, item.id)
  end
  if some_dead then
    call('ZREM', dead, item.id)
  end
  return 1, item.due
end

local reply = { now }
for _, item in ipairs(items) do
  reply[#reply + 1], reply[#reply + 2] = submit(item)
end
return reply
