-- watch: keeps the canary of a queue of which nothing is claimed here: workers outside do, or all handlers are busy.
-- KEYS   the eight of lib.lua
-- ARGV   1 now
-- Reply  1 now in µs
--        2 how many entries have an impossible score and wait for `reject`
--        3 the canary found (see lib.lua), or nil  4 the canary left
guard()
local now, now_us = clock(ARGV[1])
local found = state_of_queue(now, now_us).canary
return { now_us, impossible(), found, keep_canary(found, false, now, now_us) }
