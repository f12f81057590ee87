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
  local count, earliest, touched, more = 0, 0, {}, false
  local state = state_of_queue(now, now_us)
  local limit, spend = allowance(state, wanted, rate, now, now_us)

  local function hand_over(id, due, text, trace)
    push(id, due, text, trace)
    count = count + 1
    if earliest == 0 or tonumber(due) < earliest then
      earliest = tonumber(due)
    end
  end

  local leftovers = {}
  if limit > 0 then
    leftovers, more = lost(now, limit, touched)
  end
  for _, found in ipairs(leftovers) do
    local id, _, _, text, record = unpack(found)
    hand_over(id, record.due, text, record.trace)
  end

  local ids, scores, texts, pasts = {}, {}, {}, nil
  if count < limit then
    local range = call('ZRANGEBYSCORE', scheduled, MIN_DUE, digits(now), 'WITHSCORES', 'LIMIT', 0, limit - count)
    local fitting
    ids, scores = ids_and_scores(range)
    texts, fitting = payloads_of(ids)
    more = more or fitting < #ids
    for i = #ids, fitting + 1, -1 do
      ids[i], scores[i] = nil, nil
    end
    pasts = pasts_of(ids, scores)
    for i, id in ipairs(ids) do
      local past = pasts and pasts[i] and decode(pasts[i])
      hand_over(id, past and past.due or due_of(scores[i]), texts[id], past and past.trace)
    end
  end
  if count > 0 then
    done()
  end

  for _, found in ipairs(leftovers) do
    call('HDEL', attempts, found[1])
    unlease(found[1], found[2], touched)
  end
  end_leases(touched)
  if #ids > 0 then
    call('ZREM', scheduled, unpack(ids))
    if next(texts) then
      call('HDEL', payload, unpack(ids))
    end
    if pasts then
      call('HDEL', attempts, unpack(ids))
    end
  end
  return {
    now_us, count, spend(count), impossible(), (more or count == wanted) and 1 or 0, earliest,
    state.canary, keep_canary(state.canary, count > 0, now, now_us),
  }
end
