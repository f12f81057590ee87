-- list: one page of the ids in a state, in the order of deadline, claim or burial. Writes nothing.
-- KEYS   the eight of lib.lua
-- ARGV   1 state: scheduled, leased or dead
--        2 limit, 1 to 1000
--        3 score and 4 id of the last row of the page before, '' and '' for the first page
--        5 1 for the payloads too, else 0
-- Reply  1 whether more may follow, 1 or 0
--        2 rows of six: id, score, record (JSON) or nil; for a leased id the score it was claimed with and
--          the end of its lease, else nil and nil; payload or nil
local set = ({ scheduled = scheduled, leased = leased, dead = dead })[ARGV[1]]
local limit, after_score, after_id = tonumber(ARGV[2]), ARGV[3], ARGV[4]

local first = place_behind(set, after_score, after_id)
local ids, scores = ids_and_scores(call('ZRANGE', set, first, first + limit - 1, 'WITHSCORES'))
local more = #ids == limit and 1 or 0
local pasts = #ids > 0 and call('HMGET', attempts, unpack(ids)) or {}
local with_payloads = ARGV[5] == '1'

-- What one page may cost: 5000 unpacked entries take about 2 ms, 4 MiB of payloads about as long.
local entries_left, bytes_left = 5000, 4 * 1024 * 1024
local rows, unpacked = {}, {}
for i, id in ipairs(ids) do
  local claimed_score, lease_end, text = false, false, false
  if set == leased then
    local token = digits(scores[i])
    local batch = batch_of(token)
    claimed_score, lease_end = batch.scores[id] or false, call('ZSCORE', leases, token)
    text = with_payloads and batch.payloads[id] or false
    if not unpacked[token] then
      unpacked[token], entries_left = true, entries_left - batch.size
    end
  elseif with_payloads then
    text = call('HGET', payload, id)
  end
  for _, value in ipairs({ id, scores[i], pasts[i], claimed_score, lease_end, text }) do
    rows[#rows + 1] = value
  end
  bytes_left = bytes_left - (text and #text or 0)
  if entries_left < 0 or bytes_left < 0 then -- the page is shorter than asked for
    more = i < #ids and 1 or more
    break
  end
end
return { more, rows }
