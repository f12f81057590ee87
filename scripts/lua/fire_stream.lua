-- fire_stream: hands what is due to a stream and removes it, in one step.
-- KEYS   the eight of lib.lua, and
--        9 fired  STREAM  entries: id, due_at (ms), fired_at (ms), and payload and traceparent if there are
-- ARGV   1 now
--        2 limit, 1 to 1000 ids
--        3 the most entries the stream keeps, '' for all: older ones are removed, read or not
--        4 rate limit in ids a second, over all processes; '' for none
-- Reply  1 now in µs
--        2 how many were fired
--        3 when to look again in ms: the next deadline, or when the rate allows more; or nil
--        4 how many entries have an impossible score and wait for `reject`
--        5 1 if more is due that can be taken at once, else 0
--        6 the earliest deadline fired in ms, 0 if none was
--        7 the canary found (see lib.lua), or nil  8 the canary left  9 the shards (see shards.lua), or nil
local fired = KEYS[9]
guard()
call('XDEL', fired, '0-0') -- checks the type: no entry can have this number
local now, now_us = clock(ARGV[1])
local fired_at = digits(now)

local function push(id, due, text, trace)
  if not text and not trace then -- without a table for the fields: 0.3 µs less an id
    call('XADD', fired, '*', 'id', id, 'due_at', due, 'fired_at', fired_at)
    return
  end
  local fields = { 'id', id, 'due_at', due, 'fired_at', fired_at }
  if text then
    fields[7], fields[8] = 'payload', text
  end
  if trace then
    fields[#fields + 1], fields[#fields + 2] = 'traceparent', trace
  end
  call('XADD', fired, '*', unpack(fields))
end

local function done()
  if ARGV[3] ~= '' then
    call('XTRIM', fired, 'MAXLEN', '~', ARGV[3])
  end
end

return fire(now, now_us, tonumber(ARGV[2]), ARGV[4], push, done)
