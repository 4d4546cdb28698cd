-- First in each script about something of which every gateway has a copy.
--
-- KEYS[1]   the version: how many changes there were
-- ARGV[1]   the channel
-- ARGV[2]   the time; empty: that of this server

local format = string.format
local call = redis.call

local now = tonumber(ARGV[2])
if not now then
  local time = call('TIME')
  now = (time[1] - 1750000000) + time[2] / 1000000
end

-- Where there is no version, versions begin with the microseconds since the epoch: those that a
-- server told before it lost its data are smaller.
local function begin()
  if call('EXISTS', KEYS[1]) == 0 then
    local time = call('TIME')
    call('SET', KEYS[1], time[1] .. format('%06d', time[2]))
  end
end

-- Says what changed to all gateways; returns what was said, for the one that asked.
local function announce(event)
  begin()
  -- As text: cjson writes 14 digits.
  event.version = format('%.0f', call('INCR', KEYS[1]))
  local text = cjson.encode(event)
  call('PUBLISH', ARGV[1], text)
  return text
end
