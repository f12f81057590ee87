-- release: gives deliveries back that were not started. They are due at once for any scheduler; nothing is
-- counted against them, and what was counted before stays.
-- KEYS   the eight of lib.lua
-- ARGV   at most 1000 times id, token
-- Reply  for each pair 1 done or 0 stale
guard()
local reply, touched = {}, {}

local function release(id, token)
  if not holds(id, token) then
    return 0
  elseif not superseded(id, token, touched) then
    local score = batch_of(token).scores[id] or digits(clock(''))
    restore_payload(id, token)
    -- Under the score it was claimed with: its record, if it has one, is recognised by it.
    call('ZADD', scheduled, score, id)
    unlease(id, token, touched)
  end
  return 1
end

for i = 1, #ARGV, 2 do
  reply[#reply + 1] = release(ARGV[i], ARGV[i + 1])
end
end_leases(touched)
return reply
