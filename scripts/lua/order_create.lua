-- order_create: creates orders, each with its deadline and the event `created`. Creating one twice is creating it
-- once: what decides is the fields; the deadline of the first time stays. Refused with -OOM when Redis is full.
-- KEYS   those of order_lib.lua, with one order for each item of ARGV
-- ARGV   1 now
--        2… at most 100 times id, due (ms, or +ms from now), count of fields, and so many times name, value
-- Reply  1 now in ms
--        2… for each item three: code, its deadline in ms (0 if it is not scheduled), the order if it existed
--        1 created  2 exists, with the same fields  3 exists with others  4 the key holds no order
--        -ERR if an id, a deadline or a field is outside the contract: nothing was written
local now = clock(ARGV[1])

local items, refused = orders_of(2, now)
if not items then
  return refused
end

local create, schedule = creator(now)
local statuses, wrongs = statuses_of(items)
local made = {} -- what this call creates, by key, so that a second item of the same id sees the first
local reply = { now }
for _, item in ipairs(items) do
  local order, digest = item.order, digest_of(item.fields)
  local first = made[order]
  local code, due, existing = 1, item.due, {}
  if wrongs[order] then
    code, due = 4, 0
  elseif first or statuses[order] then
    code = (first and first.digest or call('HGET', order, 'digest')) == digest and 2 or 3
    due = first and first.due or known_due(call('ZSCORE', scheduled, item.id) or 0)
    existing = call('HGETALL', order)
  else
    create(item, digest)
    made[order] = { digest = digest, due = due }
  end
  reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = code, due, existing
end
schedule()
return reply
