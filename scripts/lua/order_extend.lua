-- order_extend: moves the deadline of an order that is still `created`, also when the deadline has passed and the
-- expiry has not run yet. Refused with -OOM when Redis is full.
-- KEYS   those of order_lib.lua, with the order
-- ARGV   1 now
--        2 id
--        3 due: ms since the epoch, +ms from now, or ~ms from the deadline that it has
-- Reply  1 code: 0 not found  1 moved  3 it came to an end, which its status tells  5 the key holds no order
--        2 the reason of code 5, or ''
--        3 now in ms
--        4 the order as it is now
--        5 the deadline it had, 0 if none
--        -ERR if the deadline is outside the contract: nothing was written
local now = clock(ARGV[1])
local id, order = ARGV[2], KEYS[FIRST_ORDER]
local status, wrong = status_of(order)
if not status then
  return { status == false and 0 or 5, wrong or '', now, {}, 0 }
elseif status ~= 'created' then
  return { 3, '', now, call('HGETALL', order), 0 }
end
local old = call('ZSCORE', scheduled, id) or call('HGET', order, 'due_at') or now
old = math.ceil(tonumber(old) or now)
local text, base = ARGV[3], now
if text:sub(1, 1) == '~' then
  text, base = '+' .. text:sub(2), old
end
local due = due_argument(text, base)
if not due then
  return redis.error_reply(BAD_DUE)
end
local have_pasts, some_dead = call('HLEN', attempts) > 0, call('ZCARD', dead) > 0
call('ZADD', scheduled, digits(due), id)
call('HSET', order, 'due_at', digits(due))
if have_pasts then
  call('HDEL', attempts, id)
end
if some_dead then
  call('ZREM', dead, id)
end
return { 1, '', now, call('HGETALL', order), known_due(old) }
