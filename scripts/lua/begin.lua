-- begin: notes that a delivery is about to run, of an id that lost one before. If its process dies now, that
-- counts as a kill: bystanders that were only leased are told from the id that may be the cause.
-- KEYS   the eight of lib.lua
-- ARGV   1 id
--        2 token
-- Reply  1 done or 0 stale
guard()
local id, token = ARGV[1], ARGV[2]
local record = past_of(id)
if not record or not holds(id, token) then
  return 0
end
record.begun = token
call('HSET', attempts, id, cjson.encode(record))
return 1
