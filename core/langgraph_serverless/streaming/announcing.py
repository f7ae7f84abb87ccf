"""The part of scripts that tells the index of a thread of a run: that its log has begun, or has ended. ``thread_index.py`` says what for.

It is a script of its own (``ANNOUNCE``) where a cluster keeps the keys of runs apart from those of threads, and otherwise a part of
the script that appends, so that both are one round trip. It asks for as little as possible: the expiry is only moved when an eighth
of it is over, which is why that much is added to it.
"""

from __future__ import annotations


def announcing(index: int) -> str:
    """Lua's function ``announce``, for a script whose keys have the thread's index and counter from this place on."""
    return _ANNOUNCING.replace("[INDEX]", f"[{index}]").replace("[COUNTER]", f"[{index + 1}]")


# made: the thread's stamp; keep (ms); own: the run's base if nobody knows better; head: JSON up to what is added here; most: runs in
# the index; size: sequence numbers that the run has used, nil while it goes on; brief: this is all that there is of it; now (ms): by
# Redis' clock, nil if that is not known.
_ANNOUNCING = """
local function announce(made, keep, run, own, head, most, size, brief, now)
  local function text(number)
    return string.format('%.0f', number)
  end
  local known = redis.call('HMGET', KEYS[COUNTER], 'made', 'run', 'base', 'next', 'floor', 'kept')
  if known[1] and known[1] ~= made then
    redis.call('DEL', KEYS[INDEX], KEYS[COUNTER])
    known = {}
  end
  local there = redis.call('EXISTS', KEYS[INDEX]) == 1
  local mine, floor = known[2] == run, tonumber(known[5] or '0')
  local fields = {}
  if not known[1] then
    fields = {'made', made}
  end
  local function close()
    local late = not there or not known[6] or not now or now - known[6] >= keep / 8
    if late and now then
      fields[#fields + 1], fields[#fields + 2] = 'kept', text(now)
    end
    if #fields > 0 then
      redis.call('HSET', KEYS[COUNTER], unpack(fields))
    end
    if late then
      redis.call('PEXPIRE', KEYS[INDEX], text(keep + math.floor(keep / 8)))
      redis.call('PEXPIRE', KEYS[COUNTER], text(keep + math.floor(keep / 8)))
    end
  end
  if not there then
    -- as the first entry of a run's log that was lost: readers that are ahead of all there is begin at the beginning
    redis.call('XADD', KEYS[INDEX], '*', 'n', '__gap__', 'd', '')
  end
  if size and mine and there then
    fields[#fields + 1], fields[#fields + 2] = 'next', text(math.max(floor, known[3] + size))
    close()
    return known[3]
  end
  if size and not brief then
    -- others have begun since
    close()
    return own
  end
  if not size and mine and not known[4] and there then
    close()
    return known[3]
  end
  local base = tonumber(known[4]) or math.max(floor, tonumber(own))
  local said = head .. (brief and ',"over":true' or '') .. ',"base":' .. text(base) .. '}'
  local id = redis.call('XADD', KEYS[INDEX], 'MAXLEN', '~', most, '*', 'n', 'run', 'd', said)
  now = tonumber(string.match(id, '^%d+'))
  local function set(name, value)
    fields[#fields + 1], fields[#fields + 2] = name, text(value)
  end
  if not size then
    fields[#fields + 1], fields[#fields + 2] = 'run', run
    set('base', base)
    if known[4] then
      redis.call('HDEL', KEYS[COUNTER], 'next')
    end
  elseif known[4] then
    set('next', base + size)
  else
    set('floor', base + size)
  end
  close()
  redis.call('PUBLISH', KEYS[INDEX], there and '' or 'new')
  return text(base)
end
"""

ANNOUNCE = (
    announcing(1)
    + """
-- KEYS: index, counter. ARGV: the thread's stamp, keep (ms), run, its base, JSON, most runs, size or '', whether it is brief.
return announce(ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7]), ARGV[8] == '1', nil)
"""
)
