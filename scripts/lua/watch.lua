-- watch: keeps the canary of a queue of which nothing is claimed here: workers outside do, or all handlers are busy.
-- KEYS   the eight of lib.lua
-- ARGV   1 now
-- Reply  1 now in µs
--        2 how many entries have an impossible score and wait for `reject`
--        3 the canary found (see lib.lua), or nil  4 the canary left  5 the shards (see shards.lua), or nil
guard()
local now, now_us = clock(ARGV[1])
local state = state_of_queue(now, now_us)
return { now_us, impossible(), state.canary, keep_canary(state.canary, false, now, now_us), state.shards }
