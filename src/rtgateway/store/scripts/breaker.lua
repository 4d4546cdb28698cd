-- Circuit breakers of all gateways: the twin of core/breaker_tally.py, which says what it all means.
--
-- KEYS: for each message the record (a hash) and the grants (a sorted set) of its breaker.
-- ARGV: the channel; the time, or '' for that of this server; then for each message: the breaker,
-- the gateway, a random number, the rules, op, version, born, grant, a, b, c, d, word.
-- Returns for each message: state, version, born, open_for, reason, ordered, claimed, granted.

local HOLD, GRANT, SEVERAL, LONG_AGO = 0.25, 30, '*', '-1000000000'
local EPOCH = 1750000000

local RULES = {
  'failure_threshold', 'success_threshold', 'timeout', 'max_timeout', 'timeout_factor', 'jitter',
  'window_calls', 'window_seconds', 'minimum_calls', 'failure_rate_threshold',
  'slow_call_rate_threshold', 'half_open_calls', 'keep',
}
local WORDS = {
  'state', 'reason', 'good_by', 'bad_by', 'old_bad_by', 'run_by', 'claim_by', 'claim_reason',
}
local NUMBERS = {
  'born', 'version', 'since', 'start', 'ordered', 'open_until', 'open_for', 'grown',
  'good_probes', 'good_at', 'other_at', 'calls', 'failed', 'slow', 'old_calls', 'old_failed',
  'old_slow', 'run', 'claim_at', 'claim_for', 'claim_grown',
}

local now = tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = (tonumber(time[1]) - EPOCH) + tonumber(time[2]) / 1000000
end

local function exact(number)
  return string.format('%.17g', number)
end

local function both(one, other)
  if one == '' or one == other then return other end
  return SEVERAL
end

-- the record -------------------------------------------------------------------------------------

local function forget(t)
  t.calls, t.failed, t.slow = 0, 0, 0
  t.old_calls, t.old_failed, t.old_slow = 0, 0, 0
  t.bad_by, t.old_bad_by = '', ''
  t.run, t.run_by = 0, ''
  t.claim_by, t.claim_reason = '', ''
  t.claim_at, t.claim_for, t.claim_grown = 0, 0, 0
end

local function load(key)
  local stored = redis.call('HGETALL', key)
  local t = {}
  for i = 1, #stored, 2 do t[stored[i]] = stored[i + 1] end
  if t.version then
    for _, name in ipairs(NUMBERS) do t[name] = tonumber(t[name]) end
    return t
  end
  t.born = math.max(1, math.floor(now * 1000))
  t.version = t.born
  t.state, t.reason, t.ordered = 'closed', '', 0
  t.since, t.start = now, now
  t.open_until, t.open_for, t.grown, t.good_probes = 0, 0, 0, 0
  t.good_by, t.good_at, t.other_at = '', tonumber(LONG_AGO), tonumber(LONG_AGO)
  forget(t)
  return t
end

local function save(key, t)
  local flat = {}
  for _, name in ipairs(WORDS) do
    flat[#flat + 1] = name
    flat[#flat + 1] = t[name]
  end
  for _, name in ipairs(NUMBERS) do
    flat[#flat + 1] = name
    flat[#flat + 1] = exact(t[name])
  end
  redis.call('HSET', key, unpack(flat))
end

-- states -----------------------------------------------------------------------------------------

local function change(t, state, reason)
  t.state, t.reason = state, reason
  t.version = t.version + 1
  t.since = now
  t.open_until = state == 'open' and now + t.open_for or 0
  t.ordered = 0
  t.changed = true
  forget(t)
end

local function open(t, reason, rules, random)
  local flapping = t.state == 'half_open' or now - t.since < t.open_for
  local grown = flapping and t.grown * rules.timeout_factor or rules.timeout
  t.grown = math.min(grown, rules.max_timeout)
  t.open_for = t.grown * (1 - rules.jitter * random)
  change(t, 'open', reason)
end

local function believe(t, rules)
  t.grown = math.min(t.claim_grown, rules.max_timeout)
  t.open_for = math.min(t.claim_for, rules.max_timeout)
  change(t, 'open', t.claim_reason)
end

-- judging ----------------------------------------------------------------------------------------

local function turn(t, start)
  t.old_calls, t.old_failed, t.old_slow, t.old_bad_by = t.calls, t.failed, t.slow, t.bad_by
  t.calls, t.failed, t.slow, t.bad_by = 0, 0, 0, ''
  t.start = start
end

local function add(t, m, rules)
  local length = rules.window_seconds
  if length > 0 then
    local passed = now - t.start
    if passed < 0 or passed >= 2 * length then
      turn(t, now)
      turn(t, now)
    elseif passed >= length then
      turn(t, t.start + length)
    end
  end
  t.calls, t.failed, t.slow = t.calls + m.a, t.failed + m.b, t.slow + m.c
  if m.b > 0 or m.c > 0 then t.bad_by = both(t.bad_by, m.by) end
  if length == 0 and t.calls >= rules.window_calls then turn(t, now) end
end

local function contradicted(t, by)
  if by == '' or by == SEVERAL then return false end
  local good_at = by == t.good_by and t.other_at or t.good_at
  return now - good_at >= 0 and now - good_at < HOLD
end

local function reason_to_open(t, rules)
  local threshold = rules.failure_threshold
  if threshold > 0 and threshold <= t.run and not contradicted(t, t.run_by) then
    if t.run == 1 then return '1 failure in a row' end
    return string.format('%.0f failures in a row', t.run)
  end
  local share
  if rules.window_seconds > 0 then
    share = 1 - (now - t.start) / rules.window_seconds
  else
    share = 1 - t.calls / rules.window_calls
  end
  share = math.min(1, math.max(0, share))
  local calls = t.calls + t.old_calls * share
  local by = t.bad_by ~= '' and t.bad_by or t.old_bad_by
  if t.bad_by ~= '' and t.old_bad_by ~= '' and t.old_calls * share > 0 then
    by = both(t.bad_by, t.old_bad_by)
  end
  if calls < rules.minimum_calls - 1e-6 or contradicted(t, by) then return nil end
  local what = string.format(calls < 1.5 and 'of %.0f call' or 'of %.0f calls', calls)
  threshold = rules.failure_rate_threshold
  local rate = (t.failed + t.old_failed * share) / calls
  if threshold > 0 and threshold <= rate then
    return string.format('failure rate %.2f %s', rate, what)
  end
  threshold = rules.slow_call_rate_threshold
  rate = (t.slow + t.old_slow * share) / calls
  if threshold > 0 and threshold <= rate then
    return string.format('slow-call rate %.2f %s', rate, what)
  end
  return nil
end

-- what is said -----------------------------------------------------------------------------------

local function prune(grants)
  redis.call('ZREMRANGEBYSCORE', grants, '-inf', exact(now))
end

local function hold(grants, grant)
  redis.call('ZADD', grants, exact(now + GRANT), grant)
  redis.call('EXPIRE', grants, GRANT + 1)
end

local say = {}

function say.look() end

function say.report(t, m, rules)
  if t.state ~= 'closed' or m.version ~= t.version then return end
  add(t, m, rules)
  if m.a > m.b then
    if m.by ~= t.good_by then t.good_by, t.other_at = m.by, t.good_at end
    t.good_at = now
    if t.claim_by ~= m.by then t.claim_by = '' end
  elseif m.b > 0 and t.claim_by ~= '' and t.claim_by ~= m.by then
    t.claim_at = now - HOLD
  end
  if m.a > m.d then
    t.run = m.d
    t.run_by = m.d > 0 and m.by or ''
  else
    t.run = t.run + m.d
    t.run_by = both(t.run_by, m.by)
  end
  if m.b > 0 or m.c > 0 then
    local reason = reason_to_open(t, rules)
    if reason then open(t, reason, rules, m.random) end
  end
end

function say.claim(t, m)
  local mine = t.born == m.born and t.version == m.version
  local lost = t.born ~= m.born and t.version == t.born
  if t.state ~= 'closed' or not (mine or lost) then return end
  if t.claim_by == '' then
    if contradicted(t, m.by) then return end
    t.claim_by, t.claim_at = m.by, now
    t.claim_for, t.claim_grown, t.claim_reason = m.a, m.b, m.word
  elseif t.claim_by ~= m.by then
    t.claim_at = now - HOLD
  end
end

function say.grant(t, m, rules, grants)
  prune(grants)
  if t.state == 'open' then
    if now < math.min(t.open_until, t.since + m.a) then return false end
  elseif t.state ~= 'half_open' then
    return false
  end
  if not redis.call('ZSCORE', grants, m.grant)
    and redis.call('ZCARD', grants) >= rules.half_open_calls then
    return false
  end
  hold(grants, m.grant)
  if t.state == 'open' then
    local rested = t.open_until - t.since
    t.good_probes = 0
    change(t, 'half_open', string.format('open time of %.3g s is over', rested))
  end
  return true
end

function say.renew(t, m, rules, grants)
  local till = redis.call('ZSCORE', grants, m.grant)
  if till and tonumber(till) > now then hold(grants, m.grant) end
end

function say.settle(t, m, rules, grants)
  prune(grants)
  local there = redis.call('ZREM', grants, m.grant) == 1
  if not there or m.version ~= t.version or t.state ~= 'half_open' then return end
  if m.a < 0 then
    open(t, m.word, rules, m.random)
  elseif m.a > 0 then
    t.good_probes = t.good_probes + 1
    if t.good_probes >= rules.success_threshold then
      local noun = t.good_probes == 1 and 'probe' or 'probes'
      change(t, 'closed', string.format('%.0f %s succeeded', t.good_probes, noun))
    end
  end
end

function say.order(t, m, rules, grants)
  if m.a > 0 and t.version ~= t.born then return end
  redis.call('DEL', grants)
  t.grown, t.open_for = 0, 0
  local state, doing = 'closed', 'reset'
  if m.word == 'forced_open' then
    state, doing = m.word, 'forced open'
  elseif m.word == 'disabled' then
    state, doing = m.word, 'disabled'
  end
  change(t, state, doing .. ' by an operator')
  t.ordered = 1
end

-- all of it --------------------------------------------------------------------------------------

local function announcement(name, t, rest)
  return cjson.encode({
    name, t.state, exact(t.version), exact(t.born), exact(rest), t.reason, t.ordered,
  })
end

local answers = {}
for i = 1, #KEYS / 2 do
  local key, grants = KEYS[2 * i - 1], KEYS[2 * i]
  local at = 2 + 13 * (i - 1)
  local m = {
    by = ARGV[at + 2],
    random = tonumber(ARGV[at + 3]),
    op = ARGV[at + 5],
    version = tonumber(ARGV[at + 6]),
    born = tonumber(ARGV[at + 7]),
    grant = ARGV[at + 8],
    a = tonumber(ARGV[at + 9]),
    b = tonumber(ARGV[at + 10]),
    c = tonumber(ARGV[at + 11]),
    d = tonumber(ARGV[at + 12]),
    word = ARGV[at + 13],
  }
  local rules, n = {}, 0
  for number in string.gmatch(ARGV[at + 4], '%S+') do
    n = n + 1
    rules[RULES[n]] = tonumber(number)
  end
  local t = load(key)
  local granted = say[m.op](t, m, rules, grants)
  if t.claim_by ~= '' and now - t.claim_at >= HOLD then believe(t, rules) end
  save(key, t)
  redis.call('EXPIRE', key, rules.keep)
  local rest = t.state == 'open' and math.max(0, t.open_until - now) or 0
  if t.changed then
    redis.call('PUBLISH', ARGV[1], announcement(ARGV[at + 1], t, rest))
  end
  answers[i] = {
    t.state, exact(t.version), exact(t.born), exact(rest), t.reason, t.ordered,
    t.claim_by ~= '' and 1 or 0, granted and 1 or 0,
  }
end
return answers
