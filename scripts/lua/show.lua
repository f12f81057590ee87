-- show: all that is known of one id. Writes nothing.
-- KEYS   the eight of lib.lua
-- ARGV   1 now
--        2 id
-- Reply  1 now in µs
--        2 score in scheduled  3 token, 4 end of the lease, 5 score it was claimed with
--        6 when it was buried  7 record (JSON, see lib.lua)  8 payload: each nil where there is none
local _, now_us = clock(ARGV[1])
local id = ARGV[2]
local token = call('ZSCORE', leased, id)
local batch = token and batch_of(digits(token))
local text = call('HGET', payload, id)
if not text and batch then
  text = batch.payloads[id]
end
return {
  now_us,
  call('ZSCORE', scheduled, id),
  token and tonumber(token),
  token and call('ZSCORE', leases, digits(token)),
  batch and batch.scores[id] or false,
  call('ZSCORE', dead, id),
  call('HGET', attempts, id),
  text or false,
}
