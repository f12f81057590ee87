-- fire_list: hands what is due to a list and removes it, in one step. The newest is at the head: take with
-- RPOP, or LMOVE to a list of your own.
-- KEYS   the eight of lib.lua, and
--        9 fired  LIST  JSON: id, due_at (ms), fired_at (ms), and payload and traceparent if there are
-- ARGV   1 now
--        2 limit, 1 to 1000 ids
--        3 the most elements the list keeps, '' for all: older ones are removed, taken or not
--        4 rate limit in ids a second, over all processes; '' for none
-- Reply  as fire_stream
local fired = KEYS[9]
guard()
call('LLEN', fired) -- checks the type
local now, now_us = clock(ARGV[1])
local fired_at = digits(now)
local elements = {}

-- JSON is passed on as it stands, since decoding and encoding would spoil large numbers.
local function as_json(text)
  return pcall(cjson.decode, text) and text or cjson.encode(text)
end

local function push(id, due, text, trace)
  local tail = trace and ',"traceparent":' .. cjson.encode(trace) or ''
  tail = tail .. (text and ',"payload":' .. as_json(text) or '')
  elements[#elements + 1] = '{"id":' .. cjson.encode(id) .. ',"due_at":' .. due .. ',"fired_at":' .. fired_at .. tail .. '}'
end

local function done()
  call('LPUSH', fired, unpack(elements))
  if ARGV[3] ~= '' then
    call('LTRIM', fired, 0, tonumber(ARGV[3]) - 1)
  end
end

return fire(now, now_us, tonumber(ARGV[2]), ARGV[4], push, done)
