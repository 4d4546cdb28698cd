-- Keeps other numbers for a limiter, or forgets them.
--
-- KEYS      version, settings
-- ARGV      channel, time, how many limiters there may be, name, numbers as JSON (empty: forget)
-- Reply     whether there were any; what was said to all gateways. -1: there would be too many

local name, numbers = ARGV[4], ARGV[5]
local there = call('HEXISTS', KEYS[2], name)
local event = {kind = 'limiter-settings', name = name}
if numbers == '' then
  call('HDEL', KEYS[2], name)
else
  if there == 0 and call('HLEN', KEYS[2]) >= tonumber(ARGV[3]) then return {-1, false} end
  call('HSET', KEYS[2], name, numbers)
  event.numbers = numbers
end
return {there, announce(event)}
