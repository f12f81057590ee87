-- All of a queue at one instant, read in one step: what must never be true of it (P7 and P9).
-- KEYS   the eight of lib.lua
-- Reply  how many ids are scheduled, leased and dead; then a text for each finding, at most 100
local call = redis.call
local scheduled, payload, leased, leases, batches, attempts, dead, meta = unpack(KEYS)
local findings = {}

local function find(...)
  if #findings < 100 then
    findings[#findings + 1] = table.concat({ ... }, ' ')
  end
end

-- member -> score. Tokens are 16 digits: as text, since Lua's tostring breaks them.
local function zset(key)
  local scores, range = {}, call('ZRANGE', key, 0, -1, 'WITHSCORES')
  for i = 1, #range, 2 do
    scores[range[i]] = range[i + 1]
  end
  return scores, #range / 2
end

local is_scheduled, count_scheduled = zset(scheduled)
local token_of, count_leased = zset(leased)
local is_dead, count_dead = zset(dead)
local ends = zset(leases)

for id in pairs(is_dead) do
  if is_scheduled[id] then find(id, 'is dead and scheduled') end
  if token_of[id] then find(id, 'is dead and leased') end
end

local holds, last = {}, tonumber(call('HGET', meta, 'token') or 0)
local unpacked = {}
for id, score in pairs(token_of) do
  local token = string.format('%.0f', tonumber(score))
  holds[token] = true
  if tonumber(score) > last then find(id, 'is leased under', token, 'which is beyond the last token') end
  if not ends[token] then find(id, 'is leased under', token, 'which has no end') end
  if unpacked[token] == nil then
    local packed = call('HGET', batches, token)
    unpacked[token] = packed and {} or false
    for i, entry in ipairs(packed and cmsgpack.unpack(packed)[1] or {}) do
      if i % 2 == 1 then unpacked[token][entry] = true end
    end
  end
  if not unpacked[token] then
    find(id, 'is leased under', token, 'which has no batch')
  elseif not unpacked[token][id] then
    find(id, 'is leased under', token, 'whose batch lacks it')
  end
end
for token in pairs(ends) do
  if not holds[token] then find('lease', token, 'holds nothing') end
end
for _, token in ipairs(call('HKEYS', batches)) do
  if not ends[token] then find('batch', token, 'belongs to no lease') end
end

for _, id in ipairs(call('HKEYS', payload)) do
  if not is_scheduled[id] and not is_dead[id] then find('payload of', id, 'which is not there') end
end
for _, id in ipairs(call('HKEYS', attempts)) do
  if not is_scheduled[id] and not token_of[id] and not is_dead[id] then
    find('record of', id, 'which is not there')
  end
end
for _, key in ipairs(KEYS) do
  if call('PTTL', key) >= 0 then find(key, 'has a ttl') end
end

return { count_scheduled, count_leased, count_dead, findings }
