-- A gateway says that it is there, or that it leaves; the answer is who is there.
-- KEYS[1]: sorted set of names by the time (ms) until which each counts.
-- ARGV: its name; ms for which it counts, 0 to leave; how many names are wanted at most.
-- Returns how many there are, then names.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local good_for = tonumber(ARGV[2])
if good_for > 0 then
  redis.call('ZADD', KEYS[1], now + good_for, ARGV[1])
else
  redis.call('ZREM', KEYS[1], ARGV[1])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local count = redis.call('ZCARD', KEYS[1])
if count > 0 and good_for > 0 then
  redis.call('PEXPIRE', KEYS[1], good_for)
end
local answer = redis.call('ZRANGE', KEYS[1], 0, tonumber(ARGV[3]) - 1)
table.insert(answer, 1, count)
return answer
