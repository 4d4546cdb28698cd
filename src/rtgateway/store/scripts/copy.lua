-- Some of a hash of which every gateway has a copy.
--
-- KEYS      version, hash
-- ARGV      nothing, time, cursor, about how many fields
-- Reply     version, milliseconds of the time, next cursor, fields and values

begin()
local page = call('HSCAN', KEYS[2], ARGV[3], 'COUNT', ARGV[4])
return {call('GET', KEYS[1]), format('%.0f', now * 1000), page[1], page[2]}
