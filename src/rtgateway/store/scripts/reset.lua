-- Forgets what keys of limits have taken, and says so to all gateways: they may hold leases of them,
-- and refusals that are remembered.
--
-- KEYS      the keys
-- ARGV      channel, what is said
-- Reply     how many keys there were

local known = redis.call('DEL', unpack(KEYS))
redis.call('PUBLISH', ARGV[1], ARGV[2])
return known
