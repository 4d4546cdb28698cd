-- Returns units that were taken beyond a cost and not spent: what `give_back` in core/limits does,
-- in the same operations and the same order.
--
-- KEYS      the keys
-- ARGV[1]   the time; empty: that of this server
-- ARGV      then five for each key: name of the algorithm, its two numbers, milliseconds until the
--           key expires, units
-- Reply     how many keys took something back

local format = string.format
local call, pcall = redis.call, redis.pcall

local now = tonumber(ARGV[1])
if not now then
  local time = call('TIME')
  now = (time[1] - 1750000000) + time[2] / 1000000
end

-- An algorithm: what is there, its two numbers, units -> the new state; nil where nothing changes.

local function schedule(value, _, rate, units)
  local full_at = tonumber(value)
  if not full_at then return nil end
  local back = full_at - units / rate
  return format('%.17g', back > now and back or now)
end

local function fixed_window(value, _, _, units)
  local ends, count = string.match(value, '^(%S+) (%S+)$')
  ends, count = tonumber(ends), tonumber(count)
  if not ends or now >= ends then return nil end
  return format('%.17g %.17g', ends, count > units and count - units or 0)
end

local function sliding_window(value, _, window, units)
  local start, previous, current = string.match(value, '^(%S+) (%S+) (%S+)$')
  start, previous, current = tonumber(start), tonumber(previous), tonumber(current)
  if not start or now >= start + window then return nil end
  return format('%.17g %.17g %.17g', start, previous, current > units and current - units or 0)
end

local ALGORITHMS = {
  token_bucket = schedule,
  leaky_bucket = schedule,
  gcra = schedule,
  fixed_window = fixed_window,
  sliding_window = sliding_window,
}

local changed = 0
for i, key in ipairs(KEYS) do
  local at = 5 * i - 3
  local algorithm = ALGORITHMS[ARGV[at]]
  local value = algorithm and pcall('GET', key)
  if type(value) == 'string' then
    local state = algorithm(
      value, tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 4]))
    if state then
      call('SET', key, state, 'PX', ARGV[at + 3])
      changed = changed + 1
    end
  end
end
return changed
