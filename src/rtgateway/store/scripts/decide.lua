-- Takes units of several keys, or nothing of any: what core/limits does, in the same operations and
-- the same order, so that both agree to the last bit. What each number means is said there.
--
-- KEYS      one for each limiter asked; what one leaves of a key is what the next one finds there
-- ARGV[1]   the time; empty: that of this server
-- ARGV      then six for each key: name of the algorithm, its two numbers, milliseconds until the
--           key expires, cost, units welcome beyond the cost
-- Reply     40 bytes for each key: wait, remaining, reset, extra, delay (double or int64, little
--           endian)

local floor, format, huge = math.floor, string.format, math.huge
local call, pcall = redis.call, redis.pcall

local now = tonumber(ARGV[1])
if not now then
  local time = call('TIME')
  now = (time[1] - 1750000000) + time[2] / 1000000
end

-- By key: the state that this decision leaves if it admits.
local states = {}

-- The string of a key; empty where there is none, or what an algorithm left that keeps a list.
local function read(key)
  local value = states[key] or pcall('GET', key)
  return type(value) == 'string' and value or ''
end

-- A number that was kept; nil for what is none, "nan" included, which Lua would take.
local function number(text)
  local value = tonumber(text)
  return value == value and value or nil
end

-- An algorithm: key, its two numbers, cost, want -> wait, remaining, reset, extra, delay, and the
-- new state: a string, or what `write` has to do to a list; nil where nothing changes.

local function schedule(key, capacity, rate, cost, want)
  local span = capacity / rate
  local full_at = number(read(key))
  local ahead = full_at and full_at - now or 0
  if ahead < 0 or ahead > 2 * span then ahead = 0 end
  local after = ahead + cost / rate
  local wait = after - span
  if wait > 1e-7 and cost > 0 then
    if cost / rate - span > 1e-7 then wait = huge end
    local left = floor((span - ahead) * rate + 1e-6)
    return wait, left > 0 and left or 0, ahead, 0, 0
  end
  local left = floor((span - after) * rate + 1e-6)
  if left < 0 then left = 0 end
  local extra = want < left and want or left
  local state
  if extra > 0 then
    state = format('%.17g', now + after + extra / rate)
  elseif cost > 0 then
    state = format('%.17g', now + after)
  end
  return 0, left, after, extra, 0, state, ahead
end

local function shaper(key, capacity, rate, cost)
  local wait, left, reset, extra, delay, state, ahead = schedule(key, capacity, rate, cost, 0)
  if cost > 0 and wait == 0 then delay = ahead end
  return wait, left, reset, extra, delay, state
end

local function fixed_window(key, limit, window, cost, want)
  local ends, count = string.match(read(key), '^(%S+) (%S+)$')
  ends, count = number(ends), number(count)
  if not ends or not count or now >= ends or ends - now > 2 * window then ends, count = now + window, 0 end
  local left = limit - count
  if cost > left and cost > 0 then
    local wait = cost > limit and huge or ends - now
    return wait, left > 0 and left or 0, count > 0 and ends - now or 0, 0, 0
  end
  left = left - cost
  if left < 0 then left = 0 end
  local extra = want < left and want or left
  count = count + cost
  local state
  if cost > 0 or extra > 0 then state = format('%.17g %.17g', ends, count + extra) end
  return 0, left, count > 0 and ends - now or 0, extra, 0, state
end

local function sliding_wait(limit, window, start, previous, current, cost)
  if cost > limit then return huge end
  local room = limit - cost - current
  if room >= 0 and previous > 0 then return start + window * (1 - room / previous) end
  return start + window + window * (1 - (limit - cost) / current)
end

local function sliding_reset(window, start, previous, current)
  if current > 0 then return start + 2 * window - now end
  return previous > 0 and start + window - now or 0
end

local function sliding_window(key, limit, window, cost, want)
  local start, previous, current = string.match(read(key), '^(%S+) (%S+) (%S+)$')
  start, previous, current = number(start), number(previous), number(current)
  if not (start and previous and current) or now >= start + 2 * window or start - now > window then
    start, previous, current = now, 0, 0
  elseif now >= start + window then
    start, previous, current = start + window, current, 0
  end
  local passed = now - start
  if passed < 0 then passed = 0 end
  local room = limit - (previous * (1 - passed / window) + current) + 1e-9
  if cost > room and cost > 0 then
    local wait = sliding_wait(limit, window, start, previous, current, cost) - now
    if wait < 1e-6 then wait = 1e-6 end
    local left = floor(room)
    local reset = sliding_reset(window, start, previous, current)
    return wait, left > 0 and left or 0, reset, 0, 0
  end
  local left = floor(room - cost)
  if left < 0 then left = 0 end
  local extra = want < left and want or left
  current = current + cost
  local reset = sliding_reset(window, start, previous, current)
  local state
  if cost > 0 or extra > 0 then
    state = format('%.17g %.17g %.17g', start, previous, current + extra)
  end
  return 0, left, reset, extra, 0, state
end

-- The list holds a time for each unit, oldest first, so that it can be searched by halves.
local function sliding_log(key, limit, window, cost)
  local listed = pcall('LLEN', key)
  local there = listed ~= 0
  if type(listed) ~= 'number' then listed = 0 end
  -- What this decision did to it already: some that are listed are gone, some come after them.
  local before = type(states[key]) == 'table' and states[key] or {gone = 0, units = 0}
  local length = listed - before.gone + before.units
  local function at(index)
    if index < length - before.units then
      return tonumber(call('LINDEX', key, before.gone + index))
    end
    return tonumber(before.when)
  end
  local last, gone = length > 0 and at(length - 1), 0
  if last and last - now > window then
    gone = length
  elseif last then
    local edge = now - window + 1e-6
    local low, high = 0, length
    if at(0) > edge then high = 0 end
    while low < high do
      local middle = floor((low + high) / 2)
      if at(middle) <= edge then low = middle + 1 else high = middle end
    end
    gone = low
  end
  if gone == length then last = nil end
  local reset = last and last + window - now or 0
  local left = limit - (length - gone) - cost
  if left < 0 and cost > 0 then
    local wait = cost > limit and huge or at(gone - left - 1) + window - now
    left = left + cost
    return wait, left > 0 and left or 0, reset, 0, 0
  end
  local state
  if cost > 0 then
    local when = last and last > now and last or now
    gone = before.gone + gone
    state = {gone = gone, empty = gone >= listed, there = there, units = before.units + cost}
    state.when = format('%.17g', when)
    reset = when + window - now
  end
  return 0, left > 0 and left or 0, reset, 0, 0, state
end

local ALGORITHMS = {
  token_bucket = schedule,
  leaky_bucket = schedule,
  gcra = schedule,
  shaper = shaper,
  fixed_window = fixed_window,
  sliding_window = sliding_window,
  sliding_log = sliding_log,
}

local function write(key, expiry, state)
  if type(state) == 'string' then
    call('SET', key, state, 'PX', expiry)
    return
  end
  if not state.empty then
    if state.gone > 0 then call('LTRIM', key, state.gone, -1) end
  elseif state.there then
    call('DEL', key)
  end
  local times = {}
  for i = 1, state.units do times[i] = state.when end
  call('RPUSH', key, unpack(times))
  call('PEXPIRE', key, expiry)
end

local function take(i, cost, want)
  local at = 6 * i - 4
  return ALGORITHMS[ARGV[at]](KEYS[i], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), cost, want)
end

local said, changes, waits, admitted = {}, {}, {}, true
for i, key in ipairs(KEYS) do
  local cost, want = tonumber(ARGV[6 * i]), tonumber(ARGV[6 * i + 1])
  local wait, left, reset, extra, delay, state = take(i, cost, want)
  if wait > 0 then admitted = false end
  changes[i], waits[i] = state, wait
  if state then states[key] = state end
  said[i] = struct.pack('<di8di8d', wait, left, reset, extra, delay)
end

if not admitted then states = {} end
for i, key in ipairs(KEYS) do
  if not admitted and waits[i] <= 0 then
    -- It would have admitted; as nothing is taken, it says what is left.
    local _, left, reset = take(i, 0, 0)
    said[i] = struct.pack('<di8di8d', 0, left, reset, 0, 0)
  elseif admitted and changes[i] and changes[i] == states[key] then
    write(key, ARGV[6 * i - 1], changes[i])
  end
end
return table.concat(said)
