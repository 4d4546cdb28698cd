-- Bans a subject.
--
-- KEYS      version, ends, bans
-- ARGV      channel, time, most bans, subject, seconds, reason
-- Reply     what was said to all gateways

local seconds = tonumber(ARGV[5])
keep(ARGV[4], seconds, 0, ARGV[6])
tidy()
return announce({kind = 'bans', banned = {{ARGV[4], seconds, 0, ARGV[6]}}})
