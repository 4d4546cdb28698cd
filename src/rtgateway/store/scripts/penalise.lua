-- Counts refusals of many subjects and bans those that had too many: what core/penalty does, in the
-- same operations and the same order. Who is banned already is passed over.
--
-- KEYS      version, ends, bans, then the record of each subject
-- ARGV      channel, time, most bans, reason, the six numbers of the rule, then subject and
--           refusals of each
-- Reply     what was said to all gateways; nil: nobody was banned

local reason = ARGV[4]
local limit, window, duration = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local factor, longest, memory = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])

local function length(strikes)
  local seconds = duration
  if factor > 1 then
    for _ = 1, strikes do
      if seconds >= longest then break end
      seconds = seconds * factor
    end
  end
  return math.min(seconds, longest)
end

local function count(subject, record, refusals)
  local ends, total, strikes, forget_at
  local known = call('GET', record)
  if known then
    ends, total, strikes, forget_at = string.match(known, '^(%S+) (%S+) (%S+) (%S+)$')
    ends, total = tonumber(ends), tonumber(total)
    strikes, forget_at = tonumber(strikes), tonumber(forget_at)
  end
  if not ends or now >= ends or ends - now > window then
    ends, total = now + window, 0
  end
  if not forget_at or now >= forget_at or forget_at - now > longest + memory then
    strikes, forget_at = 0, now
  end
  total = total + refusals
  local seconds = 0
  if total >= limit then
    seconds = length(strikes)
    ends, total, strikes = now, 0, math.min(strikes + 1, 1000)
    forget_at = now + seconds + memory
  end
  local useful = math.ceil((math.max(ends, forget_at) - now) * 1000)
  local text = format('%.17g %d %d %.17g', ends, total, strikes, forget_at)
  call('SET', record, text, 'PX', format('%.0f', math.max(useful, 1)))
  return seconds, strikes
end

local banned = {}
for index = 4, #KEYS do
  local subject, refusals = ARGV[2 * index + 3], tonumber(ARGV[2 * index + 4])
  local ends = call('ZSCORE', KEYS[2], subject)
  if not ends or tonumber(ends) <= now_ms then
    local seconds, strikes = count(subject, KEYS[index], refusals)
    if seconds > 0 then
      keep(subject, seconds, strikes, reason)
      banned[#banned + 1] = {subject, seconds, strikes, reason}
    end
  end
end
if #banned == 0 then return false end
tidy()
return announce({kind = 'bans', banned = banned})
