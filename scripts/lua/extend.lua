-- extend: moves the end of leases. A lease belongs to all ids of one claim.
-- KEYS   the eight of lib.lua
-- ARGV   1 now
--        2 lease in ms from now
--        3… at most 1000 times token, id ('' speaks for the whole claim)
-- Reply  for each item the new end of the lease in ms, or 0 stale
guard()
local now = clock(ARGV[1])
local is_virtual = ARGV[1] ~= ''
if not is_virtual then
  mend_ends(now)
end
local lease_end = now + tonumber(ARGV[2])
local reply, any_live = {}, false
for i = 3, #ARGV, 2 do
  local token, id = ARGV[i], ARGV[i + 1]
  local live = call('ZSCORE', leases, token) and (id == '' or holds(id, token))
  if live then -- XX would do nothing for a lost one; asking first is what lets us say so
    call('ZADD', leases, 'XX', digits(lease_end), token)
    any_live = true
  end
  reply[#reply + 1] = live and lease_end or 0
end
if any_live and not is_virtual then
  call('HSET', meta, 'clock', digits(now))
end
return reply
