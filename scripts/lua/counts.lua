-- counts: how much is where, at one instant. Writes nothing; every part is O(log n) at most.
-- KEYS   the eight of lib.lua
-- ARGV   1 now
-- Reply  1 now in µs  2 scheduled  3 of these due  4 leased  5 of the leases, how many ran out  6 dead
--        7 of the scheduled, how many have an impossible score  8 score of the earliest deadline, or nil
--        9 1 if the queue is paused, else 0
local now, now_us = clock(ARGV[1])
return {
  now_us,
  call('ZCARD', scheduled),
  call('ZCOUNT', scheduled, MIN_DUE, digits(now)),
  call('ZCARD', leased),
  call('ZCOUNT', leases, '-inf', digits(now)),
  call('ZCARD', dead),
  impossible(),
  next_due(MIN_DUE),
  call('HEXISTS', meta, 'paused'),
}
