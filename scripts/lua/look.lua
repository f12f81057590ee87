-- look: where each of many ids is, at one instant. Writes nothing.
-- KEYS   the eight of lib.lua
-- ARGV   at most 1000 ids
-- Reply  for each id four: score in scheduled, token in leased, when it was buried, record (JSON, see lib.lua);
--        each nil where there is none
local reply = {}
if #ARGV > 0 then
  local due, held, buried = call('ZMSCORE', scheduled, unpack(ARGV)), call('ZMSCORE', leased, unpack(ARGV)),
    call('ZMSCORE', dead, unpack(ARGV))
  local pasts = call('HMGET', attempts, unpack(ARGV))
  for i = 1, #ARGV do
    reply[4 * i - 3], reply[4 * i - 2], reply[4 * i - 1], reply[4 * i] = due[i], held[i], buried[i], pasts[i]
  end
end
return reply
