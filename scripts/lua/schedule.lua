-- schedule: registers deadlines, or moves them. Refused with -OOM when Redis is full; nothing is written then.
-- KEYS   the eight of lib.lua
-- ARGV   1 now
--        2 mode: replace; keep (only an id that is neither scheduled, leased nor dead);
--          earliest or latest (replaces only by an earlier or a later deadline)
--          behind it may stand what keeps the shards of a queue apart: `@SHARDS`, which `meta` has to have (see shards.lua),
--          or `@!SHARDS`, and only ids that are scheduled, leased or dead here already
--        3 expected: '' anything; '0' the id must not be scheduled; else its score must be this
--        4… at most 1000 times id, due (ms, or +ms from now; a W3C traceparent that is to be kept may follow after
--          a space), payload ('' none: an existing one stays)
-- Reply  for each item three integers: code, the deadline that holds now (0 unknown), the one before (0 none)
--        1 created  2 replaced  3 kept  4 conflict with `expected`  5 kept, leased  6 kept, dead
--        7 not here, where that was asked for
--        -ERR overdue: other shards, if `meta` has others
--        -ERR if an id or a deadline is outside the contract: nothing was written
local now = clock(ARGV[1])
local mode, is_fenced, only_here, shards = ARGV[2]:match('^(%a+)(@?)(!?)(.*)$')
local expected = ARGV[3]
if is_fenced == '@' and (call('HGET', meta, 'shards') or '') ~= shards then
  return redis.error_reply('ERR overdue: other shards')
end
only_here = only_here == '!'

local ids, dues, traces, entries = {}, {}, {}, {}
local only_ids = mode == 'replace' and expected == '' and not only_here
for i = 1, math.ceil((#ARGV - 3) / 3) do
  local id, text = ARGV[3 * i + 1], ARGV[3 * i + 2]
  local due, score, trace
  if text:find('^%d+$') then -- nearly always: there is nothing to be rounded, and it is written as it came
    due, score = whole_due(text), text
  else
    due, trace = due_and_trace(text, now)
    score = due and digits(due)
  end
  if #id == 0 or #id > 256 then
    return redis.error_reply('ERR overdue: an id has 1 to 256 bytes')
  end
  if not due then
    return redis.error_reply(BAD_DUE)
  end
  ids[i], dues[i], entries[2 * i - 1], entries[2 * i] = id, due, score, id
  if trace then -- not assigned as nil, since even that makes a place in the table
    traces[i] = trace
  end
  only_ids = only_ids and not trace and ARGV[3 * i + 3] == ''
end

-- Reads also check the types, so that no write below can fail halfway.
local scores = call('ZMSCORE', scheduled, unpack(ids))
local have_payloads = call('HLEN', payload) > 0
local have_pasts = call('HLEN', attempts) > 0
local some_leased, some_dead = call('ZCARD', leased) > 0, call('ZCARD', dead) > 0

-- New ids without payloads, in a queue that holds nothing but ids: there is no more to be asked of each. It takes Redis 6.2
-- instead of 7.3 µs an id, of which ZADD takes 2.8. If one stands there twice, what follows does the same again, with the answers that fit.
if only_ids and not (have_payloads or have_pasts or some_dead) then
  local reply = {}
  for i, due in ipairs(dues) do
    reply[3 * i - 2], reply[3 * i - 1], reply[3 * i] = 1, due, 0
    only_ids = only_ids and not scores[i]
  end
  if only_ids and #ids > 0 and call('ZADD', scheduled, unpack(entries)) == #ids then
    return reply
  end
end

-- id -> deadline, so that a second item of the same id sees the first. An impossible score counts as none.
local held = {}
for i, score in ipairs(scores) do
  local due = score and known_due(score)
  if due and due > 0 then
    held[ids[i]] = due
  end
end

local function busy(id)
  if some_leased and call('ZSCORE', leased, id) then
    return 5
  end
  return some_dead and call('ZSCORE', dead, id) and 6
end

local function decide(id, due, old)
  if only_here and not old and not busy(id) then
    return 7
  elseif expected ~= '' and (old or 0) ~= tonumber(expected) then
    return 4
  elseif not old then
    return mode == 'keep' and busy(id) or 1
  elseif mode == 'replace' or (mode == 'earliest' and due < old) or (mode == 'latest' and due > old) then
    return 2
  end
  return 3
end

local reply, written, texts, changed, traced = {}, {}, {}, {}, {}
local bare = {} -- set of new ids without a payload
local count = 0
for i, id in ipairs(ids) do
  local due, old = dues[i], held[id]
  local code = decide(id, due, old)
  if code == 1 or code == 2 then
    count = count + 1
    written[2 * count - 1], written[2 * count], changed[count] = entries[2 * i - 1], id, id
    held[id] = due
    traced[id] = traces[i] and trace_record(traces[i], due)
    local text = ARGV[3 * i + 3]
    if text ~= '' then
      texts[#texts + 1], texts[#texts + 2] = id, text
      bare[id] = nil
    elseif code == 1 and have_payloads then
      bare[id] = true
    end
  end
  reply[3 * i - 2], reply[3 * i - 1], reply[3 * i] = code, held[id] or 0, old or 0
end

if #texts > 0 then
  call('HSET', payload, unpack(texts))
end
if count > 0 then
  call('ZADD', scheduled, unpack(written))
  if have_pasts then -- a new deadline starts with a clean record
    call('HDEL', attempts, unpack(changed))
  end
  for id, record in pairs(traced) do
    call('HSET', attempts, id, record)
  end
  if some_dead then
    call('ZREM', dead, unpack(changed))
  end
  if have_payloads then -- what a plain ZREM left behind is not this registration's
    for id in pairs(bare) do
      call('HDEL', payload, id)
    end
  end
end
return reply
