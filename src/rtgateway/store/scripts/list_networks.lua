-- Adds networks to a list, or removes them. Removals are said even of what is not there: a gateway may
-- know of it still, after everything here was lost.
--
-- KEYS      version, networks
-- ARGV      channel, time, list, how many there may be (empty: these are removed), networks
-- Reply     how many were not there, or were; what was said to all gateways, nil: nothing changed.
--           -1: there would be too many

local list, most = ARGV[3], tonumber(ARGV[4])
local changed, named = {}, {}
for index = 5, #ARGV do
  local there = call('HEXISTS', KEYS[2], list .. ' ' .. ARGV[index]) == 1
  if there ~= (most ~= nil) then changed[#changed + 1] = ARGV[index] end
  named[#named + 1] = ARGV[index]
end
if most and #changed == 0 then return {0, false} end
if most and call('HLEN', KEYS[2]) + #changed > most then return {-1, false} end
for _, network in ipairs(changed) do
  if most then
    call('HSET', KEYS[2], list .. ' ' .. network, '')
  else
    call('HDEL', KEYS[2], list .. ' ' .. network)
  end
end
local event = {kind = 'ip-lists', list = list}
if most then event.added = changed else event.removed = named end
return {#changed, announce(event)}
