-- KEYS: events, fence.
-- ARGV: epoch, token, number of the first event, keep (ms), most events, most bytes, word, whether these are the lease's
-- last ones, then name, data, name, data ...
local fence = redis.call('HMGET', KEYS[2], 'epoch', 'token', 'next', 'sealed', 'some', 'gap', 'total', 'kept', 'cut')
local epoch, token, first = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local held = tonumber(fence[1] or '-1')
if held > epoch then
  return {-1, 0}
end
local total, length = tonumber(fence[7] or '0'), redis.call('XLEN', KEYS[1])
-- what the log holds: entries and bytes, and how much of that in its last segment
local most, most_bytes, cut, segments = tonumber(ARGV[5]), tonumber(ARGV[6]), fence[9], nil
local count, bytes, open, open_bytes = length, 0, length, 0
if length > 0 and fence[8] then
  local kept = string.gmatch(fence[8], '%d+')
  count, bytes, open, open_bytes = tonumber(kept()), tonumber(kept()), tonumber(kept()), tonumber(kept())
else
  segments = ''
end
local function closed()
  segments = segments or redis.call('HGET', KEYS[2], 'segments') or ''
  return segments
end
local function trim()
  local from = cut
  while count > most or bytes > most_bytes do
    local entries, size, last, others = string.match(closed(), '^(%d+) (%d+) (%S+);(.*)$')
    if not entries or count - entries == 0 then
      break
    end
    count, bytes, cut, segments = count - entries, bytes - size, last, others
  end
  if cut ~= from then
    local ms, at = string.match(cut, '^(%d+)%-(%d+)$')
    redis.call('XTRIM', KEYS[1], 'MINID', ms .. '-' .. string.format('%.0f', at + 1))
    redis.call('HSET', KEYS[2], 'cut', cut)
  end
end
local newest = nil
if ARGV[7] == 'end' then
  newest = (redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1] or {})[1]
end
local function add(name, data)
  local id = '*'
  if newest then
    -- What ends the run comes right after the event before, an error too: it is appended when the run has settled, and the
    -- thread's next one, whose ids are to be larger, may have begun meanwhile.
    local ms, at = string.match(newest, '^(%d+)%-(%d+)$')
    id = ms .. '-' .. string.format('%.0f', at + 1)
  end
  id = redis.call('XADD', KEYS[1], id, 'n', name, 'd', data, 'i', total)
  newest = newest and id
  total, count, bytes, open, open_bytes = total + 1, count + 1, bytes + #data, open + 1, open_bytes + #data
  if open * 16 >= most or open_bytes * 16 >= most_bytes then
    segments = closed() .. string.format('%.0f %.0f %s;', open, open_bytes, id)
    open, open_bytes = 0, 0
  end
end
local known = 0
if held == epoch and fence[2] == token then
  known = tonumber(fence[3])
end
local missing = first > known
if held == -1 then
  -- there may have been a log, with its fence; an only owner that begins has none to miss
  missing = missing or epoch > 1
else
  missing = missing or (held < epoch and tonumber(fence[4] or '-1') ~= epoch - 1)
  missing = missing or (fence[5] and length == 0)
end
local grown = missing
if missing then
  if held == -1 then
    total = first + (epoch - 1) * 1000000
  end
  add('__gap__', '')
  redis.call('HSET', KEYS[2], 'gap', '1')
end
local last = first + (#ARGV - 8) / 2
for number = math.max(known, first), last - 1 do
  local at = 9 + 2 * (number - first)
  if ARGV[at] == '__end__' then
    trim()
    if fence[6] or (missing and number > math.max(known, first)) then
      -- once more, for readers that have come back since the first one, and to give the state an id
      add('__gap__', '')
    elseif cut then
      -- for readers that may have missed what was cut off
      add('__gap__', 'cut')
    end
  end
  add(ARGV[at], ARGV[at + 1])
  grown = true
end
redis.call('HSET', KEYS[2], 'epoch', ARGV[1], 'token', token, 'next', math.max(known, last), 'total', total)
if grown then
  if ARGV[7] ~= 'end' then
    trim()
  end
  local kept = string.format('%.0f %.0f %.0f %.0f', count, bytes, open, open_bytes)
  redis.call('HSET', KEYS[2], 'some', '1', 'kept', kept)
  if segments then
    redis.call('HSET', KEYS[2], 'segments', segments)
  end
end
if ARGV[8] == '1' then
  redis.call('HSET', KEYS[2], 'sealed', ARGV[1])
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
if missing and ARGV[7] == '' then
  redis.call('PUBLISH', KEYS[1], 'new')
elseif grown then
  redis.call('PUBLISH', KEYS[1], ARGV[7])
end
return {total, held == -1 and 1 or 0}
