-- order_submit: puts orders into the intake, from which they are created soon: entries that are due now. Submitting
-- one twice is submitting it once. Refused with -OOM when Redis is full.
-- KEYS   the eight of the queue that is the intake, the six of order_lib.lua, one order for each item of ARGV
-- ARGV   1 now
--        2 the most entries that may wait in the intake
--        3… at most 100 times id, due (ms, or +ms from now), count of fields, and so many times name, value
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
local register = registrar()

local ids = {}
for i, item in ipairs(items) do
  ids[i] = item.id
end
local statuses, wrongs = statuses_of(items)
local scores, tokens = call('ZMSCORE', scheduled, unpack(ids)), call('ZMSCORE', leased, unpack(ids))

local function entry_of(text)
  local sound, entry = pcall(cjson.decode, text or '')
  return sound and type(entry) == 'table' and entry or nil
end

-- What waits in the intake, by id.
local waiting = {}
for i, id in ipairs(ids) do
  if scores[i] then
    waiting[id] = entry_of(call('HGET', payload, id))
  elseif tokens[i] then
    waiting[id] = entry_of(batch_of(digits(tokens[i])).payloads[id])
  end
end

local texts, entries, taken = {}, {}, {}

local function submit(item)
  local digest, id = digest_of(item.fields), item.id
  if wrongs[item.order] then
    return 4, 0
  elseif statuses[item.order] then
    local same = call('HGET', item.order, 'digest') == digest
    return same and 3 or 4, known_due(call('HGET', item.order, 'due_at') or 0)
  elseif waiting[id] then
    return waiting[id].digest == digest and 2 or 4, known_due(waiting[id].due_at or 0)
  elseif room < 1 then
    return 5, 0
  end
  room = room - 1
  local fields = #item.fields > 0 and item.fields or nil -- an empty list would become {}
  local entry = { due_at = digits(item.due), digest = digest, fields = fields }
  waiting[id] = entry -- a second item of the same id sees the first
  texts[#texts + 1], texts[#texts + 2] = id, cjson.encode(entry)
  entries[#entries + 1], entries[#entries + 2] = digits(now), id
  taken[#taken + 1] = id
  return 1, item.due
end

local reply = { now }
for _, item in ipairs(items) do
  reply[#reply + 1], reply[#reply + 2] = submit(item)
end
if #taken > 0 then
  call('HSET', payload, unpack(texts))
  register(entries, taken)
end
return reply
