"""The script that appends to a run's log: a batch as a whole, in one round trip.

Refuses earlier epochs, skips what is there already, puts gap markers where events are missing, and keeps the log within its
bounds; what all that is for is said in ``log.py``. Nothing is ever scanned for the bounds: entries are counted in segments, of
a sixteenth of them each, whose sizes and last ids are in the fence. What is too much is cut off by segments, the oldest first;
the newest event always stays. Readers know by the entries' numbers what they have missed. Right before the end of a log that was cut
there is a gap marker (``CUT``) for those who read on after an id: they may have missed something earlier.

Where the keys of the run's thread are given too, its index is told in the same round trip (``announcing.py``). Each command within a
script costs Redis and everybody who waits for it, so there is one that reads the fence and one that writes it; the log's first new
entry finds out whether the log is still there; and its expiry is moved when a lease begins, at the end, and now and then.
"""

from __future__ import annotations

from langgraph_serverless.streaming.announcing import announcing

#: Arguments before the events.
ARGUMENTS = 16

APPEND = (
    announcing(3)
    + """
-- KEYS: events, fence; if there is something to tell, the thread's index and counter.
-- ARGV: epoch, token, number of the first event, keep (ms), most events, most bytes, word, whether these are the lease's
-- last ones, whether the thread's readers have yet to be told that the lease has begun; then for the index the thread's stamp, keep
-- (ms), run, its base, JSON, most runs, stride; then name, data, name, data ...
local fence = redis.call('HMGET', KEYS[2], 'epoch', 'token', 'next', 'sealed', 'some', 'gap', 'total', 'kept', 'cut',
  'last', 'at')
local epoch, token, first, keep = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local held, ended = tonumber(fence[1] or '-1'), ARGV[7] == 'end'
if held > epoch then
  return {-1, 0, ''}
end
local total = tonumber(fence[7] or '0')
local known = 0
if held == epoch and fence[2] == token then
  known = tonumber(fence[3])
end
local last = first + (#ARGV - 16) / 2
-- an only owner that begins has no log to find; where the fence knows of one, the first entry finds out whether it is there
local begins = held == -1 and epoch == 1 and first == 0
local unsure = fence[5] and fence[8] and math.max(known, first) < last
local length = 0
if unsure then
  length = tonumber(string.match(fence[8], '^%d+'))
elseif not begins then
  length = redis.call('XLEN', KEYS[1])
end
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
    local entries, size, newest, others = string.match(closed(), '^(%d+) (%d+) (%S+);(.*)$')
    if not entries or count - entries == 0 then
      break
    end
    count, bytes, cut, segments = count - entries, bytes - size, newest, others
  end
  if cut ~= from then
    local ms, at = string.match(cut, '^(%d+)%-(%d+)$')
    redis.call('XTRIM', KEYS[1], 'MINID', ms .. '-' .. string.format('%.0f', at + 1))
  end
end
local newest = nil
if ended and length > 0 then
  local at, id = string.match(fence[10] or '', '^(%d+) (%S+)$')
  if at and tonumber(at) == total then
    newest = id
  else
    -- the fence is an older worker's
    newest = (redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1] or {})[1]
  end
end
local missing, gap, grown, newest_id = first > known, nil, false, nil
if held == -1 then
  -- there may have been a log, with its fence; an only owner that begins has none to miss
  missing = missing or epoch > 1
else
  missing = missing or (held < epoch and tonumber(fence[4] or '-1') ~= epoch - 1)
  missing = missing or (fence[5] and length == 0)
end
local function place()
  if not newest then
    return '*'
  end
  -- What ends the run comes right after the event before, an error too: it is appended when the run has settled, and the
  -- thread's next one, whose ids are to be larger, may have begun meanwhile.
  local ms, at = string.match(newest, '^(%d+)%-(%d+)$')
  return ms .. '-' .. string.format('%.0f', at + 1)
end
local function add(name, data)
  local id = nil
  if unsure then
    unsure = false
    id = redis.call('XADD', KEYS[1], 'NOMKSTREAM', place(), 'n', name, 'd', data, 'i', total)
    if not id then
      count, bytes, open, open_bytes, segments, newest = 0, 0, 0, 0, '', nil
      if not missing then
        missing, gap = true, '1'
        redis.call('XADD', KEYS[1], '*', 'n', '__gap__', 'd', '', 'i', total)
        total, count, open = total + 1, 1, 1
      end
    end
  end
  id = id or redis.call('XADD', KEYS[1], place(), 'n', name, 'd', data, 'i', total)
  newest, newest_id, grown = newest and id, id, true
  total, count, bytes, open, open_bytes = total + 1, count + 1, bytes + #data, open + 1, open_bytes + #data
  if open * 16 >= most or open_bytes * 16 >= most_bytes then
    segments = closed() .. string.format('%.0f %.0f %s;', open, open_bytes, id)
    open, open_bytes = 0, 0
  end
end
if missing then
  if held == -1 then
    total = first + (epoch - 1) * 1000000
  end
  gap = '1'
  add('__gap__', '')
end
for number = math.max(known, first), last - 1 do
  local at = 17 + 2 * (number - first)
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
end
local fields = {'epoch', ARGV[1], 'token', token, 'next', math.max(known, last), 'total', total}
local function set(name, value)
  fields[#fields + 1], fields[#fields + 2] = name, value
end
local now = newest_id and tonumber(string.match(newest_id, '^%d+'))
if grown then
  if not ended then
    trim()
  end
  set('some', '1')
  set('kept', string.format('%.0f %.0f %.0f %.0f', count, bytes, open, open_bytes))
  set('last', string.format('%.0f', total) .. ' ' .. newest_id)
  if segments then
    set('segments', segments)
  end
  if cut and cut ~= fence[9] then
    set('cut', cut)
  end
end
if gap then
  set('gap', gap)
end
if ARGV[8] == '1' then
  set('sealed', ARGV[1])
end
local same = held == epoch and fence[2] == token and not missing
local late = ended or not same or not now or not fence[11] or now - fence[11] >= keep / 8
if late and now then
  set('at', string.format('%.0f', now))
end
redis.call('HSET', KEYS[2], unpack(fields))
if late then
  local longer = ended and keep or keep + math.floor(keep / 8)
  redis.call('PEXPIRE', KEYS[1], longer)
  redis.call('PEXPIRE', KEYS[2], longer)
end
if missing and ARGV[7] == '' then
  redis.call('PUBLISH', KEYS[1], 'new')
elseif grown then
  redis.call('PUBLISH', KEYS[1], ARGV[7])
end
local base = ARGV[13]
if #KEYS == 4 then
  local brief = ended and held == -1
  local function tell(size, ms)
    base = announce(ARGV[10], tonumber(ARGV[11]), ARGV[12], base, ARGV[14], ARGV[15], size, brief, ms)
  end
  if not brief and (held == -1 or ARGV[9] == '1') then
    tell(nil, now)
  end
  if ended then
    -- the end has the time of the event before
    local time = not brief and redis.call('TIME')
    tell(total * tonumber(ARGV[16]), time and time[1] * 1000 + math.floor(time[2] / 1000))
  end
end
return {total, held == -1 and 1 or 0, base}
"""
)
