-- fire_lib: what the sinks share. It stands between lib.lua and the verb:
--   cat scripts/lua/{lib,fire_lib,fire_stream}.lua | redis-cli -x SCRIPT LOAD
--
-- KEYS   the eight of lib.lua, then 9 fired, whose type is the verb's
-- ARGV   as the verb says
-- Reply  as the verb says

-- Passes due ids, and those whose lease ran out (the queue had another handler before),
-- to push(id, due, text, trace) and removes them: claim, delivery and ack without a window between. Then done() for
-- what has to follow the last push and come before the removal. Answers the reply of the verb.
local function fire(now, now_us, wanted, rate, push, done)
  local count, earliest, touched, more = 0, math.huge, {}, false
  local state = state_of_queue(now, now_us)
  local limit, spend = allowance(state, wanted, rate, now, now_us)

  local function note(due)
    earliest = math.min(earliest, tonumber(due))
  end

  local leftovers = {}
  if limit > 0 then
    leftovers, more = lost(now, limit, touched)
  end
  for _, found in ipairs(leftovers) do
    local id, _, _, text, record = unpack(found)
    push(id, record.due, text, record.trace)
    note(record.due)
  end
  count = #leftovers

  local ids, texts, pasts, removed = {}, {}, nil, 0
  if count < limit then
    local range = call('ZRANGEBYSCORE', scheduled, MIN_DUE, digits(now), 'WITHSCORES', 'LIMIT', 0, limit - count)
    removed = #range / 2
    if call('HLEN', payload) == 0 and call('HLEN', attempts) == 0 then -- nothing to be looked up for each
      for i = 1, #range, 2 do
        push(range[i], due_of(range[i + 1]))
      end
    else
      local scores
      ids, scores = ids_and_scores(range)
      texts, removed = payloads_of(ids)
      more = more or removed < #ids
      for i = #ids, removed + 1, -1 do
        ids[i], scores[i] = nil, nil
      end
      pasts = pasts_of(ids, scores)
      for i, id in ipairs(ids) do
        local past = pasts and pasts[i] and decode(pasts[i])
        local due = past and past.due or due_of(scores[i])
        push(id, due, texts[id], past and past.trace)
        note(due)
      end
    end
    if removed > 0 then
      note(due_of(range[2])) -- they come in this order
    end
    count = count + removed
  end
  if count > 0 then
    done()
  end

  for _, found in ipairs(leftovers) do
    call('HDEL', attempts, found[1])
    unlease(found[1], found[2], touched)
  end
  end_leases(touched)
  if removed > 0 then
    remove_earliest(removed)
  end
  if next(texts) then
    call('HDEL', payload, unpack(ids))
  end
  if pasts then
    call('HDEL', attempts, unpack(ids))
  end
  return {
    now_us, count, spend(count), impossible(), (more or count == wanted) and 1 or 0, count > 0 and earliest or 0,
    state.canary, keep_canary(state.canary, count > 0, now, now_us), state.shards,
  }
end
