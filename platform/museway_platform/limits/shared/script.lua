--[[ The limiter of many processes: all operations of one round trip on one organization, in order, as one atomic step.

KEYS: the account (hash), its open holds (hash), the ids of ended holds (sorted set); all tagged {organization}.
ARGV: a header, the tracks (what a kind of request meets, `packing.py`), the operations; each one msgpack text.
Gives one msgpack text: {refusal of the whole}, or {n, now in us, money sequence, {an answer for each operation}}.

Nothing is written before the last operation is through, so a fault in the middle leaves all as it was.

Numbers of Lua are doubles: whole below 2^53. Sums of money are therefore kept by HINCRBY (64 bits) and only read to be
compared with a hold's amount (below 2^52), where the rounding of a sum beyond 2^53 can't change the outcome. A bucket's
level is whole tokens and a remainder in token x microseconds of its window, so it neither drifts nor rounds.

The account's fields: generation, n (counts changes), sequence (of money in; absent until opened), ahead, left (posted -
undrained - held), held, settled and drained (in sum), y:<journal> and d:<journal> (the same by process), dead (journals
of late, of processes that may still wake), b:<bucket>, c:<gate>, w:<scope id>: its windows. A window once begun counts on whether or not a cap stands on it.
]]
local account, holds_key, ended_key = KEYS[1], KEYS[2], KEYS[3]
local pack, unpack, floor, format = cmsgpack.pack, cmsgpack.unpack, math.floor, string.format
local spread = _G.unpack
local SECOND, DAY, LARGE = 1000000, 86400000000, 4503599627370496
local ENDED_US, ENDED_MAX = 600 * SECOND, 65536

local header = unpack(ARGV[1])
local generation, seen, now, entering, owner, track_count = header[1], header[2], header[3], header[4], header[5], header[6]
if now == 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * SECOND + tonumber(time[2])
end

-- fields of the account ---------------------------------------------------------------------------------------------

local raw, changed, added = {}, {}, {}

local function field(name)
  local text = raw[name]
  if text == nil then
    text = redis.call('HGET', account, name)
    raw[name] = text
  end
  return text
end

local function put(name, text)
  raw[name] = text
  changed[name] = text
end

local function add(name, amount)
  added[name] = (added[name] or 0) + amount
end

local function sum(name) return tonumber(field(name) or 0) + (added[name] or 0) end
-- Exact at any size: the stored text, and what is added to it.
local function exact(name) return { field(name) or '0', added[name] or 0 } end
local function money() return { exact('left'), exact('held'), exact('settled'), exact('drained') } end

local HEAD = { 'generation', 'n', 'sequence', 'left', 'held', 'settled', 'drained', 'dead' }
for index, text in ipairs(redis.call('HMGET', account, spread(HEAD))) do raw[HEAD[index]] = text end

local stored = tonumber(raw.generation or -1)
if stored > generation then return pack({ 'stale' }) end
if tonumber(stored == generation and raw.n or 0) < seen then return pack({ 'lost' }) end
if stored < generation then
  if not entering then return pack({ 'closed' }) end
  redis.call('DEL', account, holds_key, ended_key)
  for _, name in ipairs(HEAD) do raw[name] = false end
  put('generation', format('%.0f', generation))
end
if not raw.sequence and not entering then return pack({ 'closed' }) end

-- rates -------------------------------------------------------------------------------------------------------------

-- floor((a * b + carry) / w) and the rest, exactly, where w < 2^42 and 0 <= carry < w: by digits of `a` where a * b is large.
local function multiplied(a, b, w, carry)
  local product = a * b
  if product < LARGE then
    product = product + carry
    local rest = product % w
    return (product - rest) / w, rest
  end
  local whole, rest, times = 0, 0, floor(b / w)
  local whole_times = a * times
  b = b % w
  local digits = {}
  while a > 0 do
    digits[#digits + 1] = a % 1024
    a = floor(a / 1024)
  end
  for index = #digits, 1, -1 do
    local part = rest * 1024 + digits[index] * b
    rest = part % w
    whole = whole * 1024 + (part - rest) / w
  end
  rest = rest + carry
  if rest >= w then whole, rest = whole + 1, rest - w end
  return whole + whole_times, rest
end

local buckets = {}  -- name → {whole tokens, rest, at, capacity, refill, window in s}

local function refill(bucket)
  local elapsed = now - bucket[3]
  if elapsed <= 0 then return end  -- a clock that was set back waits for itself
  bucket[3] = now
  local missing, refilled, window = bucket[4] - bucket[1], bucket[5], bucket[6] * SECOND
  if missing <= 0 or refilled == 0 then return end
  if elapsed >= window * missing then
    bucket[1], bucket[2] = bucket[4], 0
    return
  end
  local whole, rest = multiplied(elapsed, refilled, window, bucket[2])
  bucket[1], bucket[2] = bucket[1] + whole, rest
  if bucket[1] >= bucket[4] then bucket[1], bucket[2] = bucket[4], 0 end
end

local function load_bucket(name)
  local bucket = buckets[name]
  if not bucket then
    local text = field(name)
    if not text then return nil end
    bucket = unpack(text)
    buckets[name] = bucket
  end
  refill(bucket)
  return bucket
end

-- spec: {name, kind (0 requests, 1 input, 2 output), capacity, refill, window in s}
local function bucket_of(spec)
  local bucket = load_bucket(spec[1])
  if not bucket then
    bucket = { spec[3], 0, now, spec[3], spec[4], spec[5] }
    buckets[spec[1]] = bucket
  elseif bucket[4] ~= spec[3] or bucket[5] ~= spec[4] or bucket[6] ~= spec[5] then
    -- Another limit from now on: what is missing stays missing, a change is no refill.
    bucket[1], bucket[2] = spec[3] - (bucket[4] - bucket[1]), 0
    bucket[4], bucket[5], bucket[6] = spec[3], spec[4], spec[5]
  end
  return bucket
end

local written_buckets = {}
local function take(name, tokens)
  local bucket = buckets[name]
  bucket[1] = bucket[1] - tokens
  if bucket[1] >= bucket[4] then bucket[1], bucket[2] = bucket[4], 0 end
  written_buckets[name] = bucket
end

local function levels(specs)
  local list = {}
  for index, spec in ipairs(specs) do
    local bucket = bucket_of(spec)
    list[index] = { bucket[1], bucket[2] }
  end
  return list
end

local function gates(specs)
  local list = {}
  for index, spec in ipairs(specs) do list[index] = sum(spec[1]) end
  return list
end

-- caps --------------------------------------------------------------------------------------------------------------

-- The first microsecond of the period that holds `now`: UTC, weeks from Monday, months of the Gregorian calendar.
local function begins(period)
  if period == 'total' then return 0 end
  local day = floor(now / DAY)
  if period == 'week' then
    day = day - (day + 3) % 7
  elseif period == 'month' then
    local days = (day + 719468) % 146097
    local year = floor((days - floor(days / 1460) + floor(days / 36524) - floor(days / 146096)) / 365)
    local of_year = days - (365 * year + floor(year / 4) - floor(year / 100))
    day = day - (of_year - floor((153 * floor((5 * of_year + 2) / 153) + 2) / 5))
  end
  return day * DAY
end

local windows, written_windows = {}, {}  -- scope id → {current = {period → {start, used, held}}, old = {{period, window}}}

local function windows_of(scope)
  local all = windows[scope]
  if not all then
    local text = field('w:' .. scope)
    all = text and unpack(text) or { current = {}, old = {} }
    windows[scope] = all
    for period, window in pairs(all.current) do
      local start = begins(period)
      if start > window[1] then  -- a clock that was set back brings no old window back
        if window[3] ~= 0 then all.old[#all.old + 1] = { period, window } end
        all.current[period] = { start, 0, 0 }
      end
    end
  end
  return all
end

local function window_of(scope, period, start)
  local all = windows_of(scope)
  local window = all.current[period]
  if window and window[1] == start then return window end
  for _, old in ipairs(all.old) do
    if old[1] == period and old[2][1] == start then return old[2] end
  end
  return nil
end

-- Money into and out of the windows in which a hold was admitted.
local function count(hold, held, used)
  for _, place in ipairs(hold[8]) do
    local window = window_of(place[1], place[2], place[3])
    if window then
      window[2], window[3] = window[2] + used, window[3] + held
      written_windows[place[1]] = true
    end
  end
end

-- holds -------------------------------------------------------------------------------------------------------------

-- A hold: {journal of its process, key, scopes, amount, input tokens, output tokens, admitted, windows, gates, buckets}
local open, written_holds, ended = {}, {}, {}

local function hold_of(id)
  local hold = open[id]
  if hold == nil then
    local text = redis.call('HGET', holds_key, id)
    hold = text and unpack(text) or false
    open[id] = hold
  end
  return hold
end

local function keep(id, hold)
  open[id] = hold
  written_holds[id] = true
end

local function was_ended(id) return ended[id] or redis.call('ZSCORE', ended_key, id) end

-- The windows that count what is admitted for these scopes now.
local function current(scopes)
  local places = {}
  for _, scope in ipairs(scopes) do
    for period, window in pairs(windows_of(scope).current) do places[#places + 1] = { scope, period, window[1] } end
  end
  return places
end

local function is_dead(journal)
  for _, dead in ipairs(raw.dead and unpack(raw.dead) or {}) do
    if dead[1] == journal then return true end
  end
  return false
end

-- track: {allowance, buckets, gates {name, capacity}, caps {scope, period, amount}, scopes}
local function admit(track, id, key, amount, inputs, outputs)
  if hold_of(id) or was_ended(id) then return { 'again' } end
  if is_dead(owner) then return { 'closed' } end
  if sum('left') + track[1] < amount then return { 'credit', money() } end
  local full, places = false, {}
  for index, cap in ipairs(track[4]) do
    local window = windows_of(cap[1]).current[cap[2]]
    if not window then return { 'closed' } end
    places[index] = { index - 1, window[1], window[2], window[3] }
    full = full or window[2] + window[3] + amount > cap[3]
  end
  if full then return { 'caps', places } end
  local asked = { 1, inputs, outputs }
  for _, spec in ipairs(track[2]) do full = bucket_of(spec)[1] < asked[spec[2] + 1] or full end
  for _, gate in ipairs(track[3]) do full = full or sum(gate[1]) >= gate[2] end
  if full then return { 'rates', levels(track[2]), gates(track[3]) } end
  local hold = { owner, key, track[5], amount, inputs, outputs, now, current(track[5]), {}, {} }
  add('left', -amount)
  add('held', amount)
  count(hold, amount, 0)
  for index, gate in ipairs(track[3]) do
    add(gate[1], 1)
    hold[9][index] = gate[1]
  end
  for index, spec in ipairs(track[2]) do
    take(spec[1], asked[spec[2] + 1])
    hold[10][index] = { spec[1], spec[2] }
  end
  keep(id, hold)
  return { 'ok', levels(track[2]) }
end

local function extend(track, id, amount, outputs)
  local hold = hold_of(id)
  if not hold then return { 'none' } end
  if sum('left') + track[1] < amount then return { 'credit', money() } end
  local full, places = false, {}
  for _, place in ipairs(hold[8]) do
    for index, cap in ipairs(track[4]) do
      local window = cap[1] == place[1] and cap[2] == place[2] and window_of(place[1], place[2], place[3])
      if window then
        places[#places + 1] = { index - 1, window[1], window[2], window[3] }
        full = full or window[2] + window[3] + amount > cap[3]
      end
    end
  end
  if full then return { 'caps', places } end
  local limited = {}
  if outputs > 0 then
    for _, of in ipairs(hold[10]) do
      for _, spec in ipairs(track[2]) do
        if spec[2] == 2 and spec[1] == of[1] then
          limited[#limited + 1] = spec[1]
          full = bucket_of(spec)[1] < outputs or full
        end
      end
    end
  end
  if full then return { 'rates', levels(track[2]), {} } end
  for _, name in ipairs(limited) do take(name, outputs) end
  add('left', -amount)
  add('held', amount)
  count(hold, amount, 0)
  hold[4], hold[6] = hold[4] + amount, hold[6] + outputs
  keep(id, hold)
  return { 'ok', {} }
end

-- End a hold: `used` nano-USD of it are spent, what was not used of tokens goes back. {false} where it is over.
local function finish(id, inputs, outputs, used)
  local hold = hold_of(id)
  ended[id] = true
  if not hold then return { false } end
  add('left', hold[4] - used)
  add('held', -hold[4])
  add('settled', used)
  add('y:' .. hold[1], used)
  count(hold, -hold[4], used)
  for _, gate in ipairs(hold[9]) do add(gate, -1) end
  local back = { 0, hold[5] - inputs, hold[6] - outputs }
  for _, of in ipairs(hold[10]) do
    if of[2] > 0 and load_bucket(of[1]) then take(of[1], -back[of[2] + 1]) end
  end
  keep(id, false)
  return { true }
end

local function settle(_, id, inputs, outputs, used) return finish(id, inputs, outputs, used) end
local function release(_, id) return finish(id, 0, 0, 0) end

-- money -------------------------------------------------------------------------------------------------------------

local function posted(_, sequence, delta)
  local ahead = field('ahead') and unpack(field('ahead')) or {}
  if sequence <= sum('sequence') then return { false } end
  for _, other in ipairs(ahead) do
    if other == sequence then return { false } end
  end
  ahead[#ahead + 1] = sequence
  table.sort(ahead)
  while ahead[1] == sum('sequence') + 1 do
    add('sequence', 1)
    table.remove(ahead, 1)
  end
  put('ahead', pack(ahead))
  add('left', delta)
  return { true }
end

local function drained(_, journal, total)
  local more = total - sum('d:' .. journal)
  if more > 0 then
    add('drained', more)
    add('d:' .. journal, more)
  end
  return { true }
end

local function open_account(_, amount, sequence)
  if field('sequence') or added.sequence then return { false } end
  added.left_text = amount  -- a sum beyond 2^53 travels as text
  add('sequence', sequence)
  return { true }
end

-- The cap's window, beginning with what the ledger had of its period (less what had been drained before it was asked), all
-- that is settled, and the holds that were admitted in it.
local function begin_window(_, scope, period, start, amount)
  local all = windows_of(scope)
  if all.current[period] then return { false } end
  local window = { begins(period), 0, 0 }
  if window[1] == start then window[2] = amount + sum('settled') end
  all.current[period] = window
  written_windows[scope] = true
  local ids = redis.call('HKEYS', holds_key)
  for id in pairs(open) do ids[#ids + 1] = id end
  local done = {}
  for _, id in ipairs(ids) do
    local hold = not done[id] and hold_of(id)
    done[id] = true
    if hold and hold[7] >= window[1] then
      for _, other in ipairs(hold[3]) do
        if other == scope then
          hold[8][#hold[8] + 1] = { scope, period, window[1] }
          window[3] = window[3] + hold[4]
          keep(id, hold)
        end
      end
    end
  end
  return { true }
end

-- After a loss: what a living process knows ---------------------------------------------------------------------------

local function restore(_, id, hold)
  if hold_of(id) or was_ended(id) then return { false } end  -- said again, late
  add('left', -hold[4])
  add('held', hold[4])
  for _, gate in ipairs(hold[9]) do add(gate, 1) end
  keep(id, hold)
  return { true }
end

local function contribute(_, journal, settled, gone)
  if field('y:' .. journal) or added['y:' .. journal] then return { false } end
  add('y:' .. journal, settled)
  add('d:' .. journal, gone)
  add('settled', settled)
  add('drained', gone)
  add('left', gone - settled)
  return { true }
end

local forgotten = {}
-- All that this journal held is in the ledger, whether or not that was ever told. Nothing more is admitted for it.
local function forget(_, journal)
  add('drained', sum('y:' .. journal) - sum('d:' .. journal))
  forgotten['y:' .. journal], forgotten['d:' .. journal] = true, true
  local dead = { { journal, now } }
  for _, other in ipairs(raw.dead and unpack(raw.dead) or {}) do
    if other[2] > now - DAY and other[1] ~= journal then dead[#dead + 1] = other end
  end
  put('dead', pack(dead))
  return { true }
end

-- what is told ------------------------------------------------------------------------------------------------------

local function peek() return money() end

local function states(track)
  local places = {}
  for index, cap in ipairs(track[4]) do
    local window = windows_of(cap[1]).current[cap[2]] or { begins(cap[2]), 0, 0 }
    places[index] = { index - 1, window[1], window[2], window[3] }
  end
  return { money(), levels(track[2]), gates(track[3]), places }
end

local function list(_, journal)
  local found = {}
  local all = redis.call('HGETALL', holds_key)
  for index = 1, #all, 2 do
    local hold = unpack(all[index + 1])
    if journal == '' or hold[1] == journal then
      found[#found + 1] = { all[index], hold[2], hold[3], hold[4], hold[6] }
    end
  end
  return found
end

local operations = {
  admit = admit, extend = extend, settle = settle, release = release, posted = posted,
  drained = drained, open = open_account, window = begin_window, restore = restore, contribute = contribute,
  forget = forget, peek = peek, states = states, list = list,
}

local tracks, answers = {}, {}
for index = 1, track_count do tracks[index - 1] = unpack(ARGV[1 + index]) end
for index = 2 + track_count, #ARGV do
  local o = unpack(ARGV[index])
  answers[#answers + 1] = operations[o[1]](tracks[o[2]], o[3], o[4], o[5], o[6], o[7], o[8])
end

-- Now it counts -----------------------------------------------------------------------------------------------------

for name, bucket in pairs(written_buckets) do put(name, pack(bucket)) end
for scope in pairs(written_windows) do
  local all, kept = windows[scope], {}
  for _, old in ipairs(all.old) do
    if old[2][3] ~= 0 then kept[#kept + 1] = old end
  end
  all.old = kept
  put('w:' .. scope, pack(all))
end
if added.left_text then
  redis.call('HINCRBY', account, 'left', added.left_text)
  added.left_text = nil
end
local sequence, writes = sum('sequence'), {}
for name, text in pairs(changed) do
  writes[#writes + 1] = name
  writes[#writes + 1] = text
end
local any = #writes > 0
if any then redis.call('HSET', account, spread(writes)) end
for name, amount in pairs(added) do
  if not forgotten[name] and (amount ~= 0 or not raw[name]) then
    redis.call('HINCRBY', account, name, format('%.0f', amount))
    any = true
  end
end
for name in pairs(forgotten) do
  redis.call('HDEL', account, name)
  any = true
end
for id in pairs(written_holds) do
  local hold = open[id]
  if hold then redis.call('HSET', holds_key, id, pack(hold)) else redis.call('HDEL', holds_key, id) end
  any = true
end
for id in pairs(ended) do
  redis.call('ZADD', ended_key, format('%.0f', now), id)
  any = true
end
if next(ended) then
  redis.call('ZREMRANGEBYSCORE', ended_key, '-inf', format('%.0f', now - ENDED_US))
  redis.call('ZREMRANGEBYRANK', ended_key, 0, -ENDED_MAX - 1)
end
local n = tonumber(raw.n or 0)
if any then n = redis.call('HINCRBY', account, 'n', 1) end
return pack({ n, now, sequence, answers })
