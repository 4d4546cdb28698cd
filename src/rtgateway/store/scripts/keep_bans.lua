-- After announce.lua in scripts that ban.
--
-- KEYS[2]   sorted set: subjects by the millisecond at which their bans end
-- KEYS[3]   hash: of each, that millisecond, strikes and reason
-- ARGV[3]   how many bans there may be

local now_ms = math.floor(now * 1000)

local function keep(subject, seconds, strikes, reason)
  local ends = format('%.0f', math.ceil(now_ms + seconds * 1000))
  call('ZADD', KEYS[2], ends, subject)
  call('HSET', KEYS[3], subject, ends .. ' ' .. strikes .. ' ' .. reason)
end

local function forget(subjects)
  if #subjects > 0 then
    call('ZREM', KEYS[2], unpack(subjects))
    call('HDEL', KEYS[3], unpack(subjects))
  end
end

-- Forgets what has ended, and what is too much: those that end first. Both keys end with the last.
local function tidy()
  forget(call('ZRANGEBYSCORE', KEYS[2], '-inf', now_ms, 'LIMIT', 0, 1000))
  local excess = call('ZCARD', KEYS[2]) - tonumber(ARGV[3])
  if excess > 0 then forget(call('ZRANGE', KEYS[2], 0, math.min(excess, 2000) - 1)) end
  local last = call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')
  if last[2] then
    local left = format('%.0f', last[2] - now_ms)
    call('PEXPIRE', KEYS[2], left)
    call('PEXPIRE', KEYS[3], left)
  end
end
