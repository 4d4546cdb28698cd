-- Lifts a ban and forgets the refusals counted since. It is said even if there was none: a gateway
-- may have one of its own.
--
-- KEYS      version, ends, bans, the record of the subject
-- ARGV      channel, time, most bans, subject, 1: forget the bans before it as well
-- Reply     whether there was one; what was said to all gateways

local subject = ARGV[4]
local ends = call('ZSCORE', KEYS[2], subject)
forget({subject})
local record = call('GET', KEYS[4])
if record and ARGV[5] == '1' then
  call('DEL', KEYS[4])
elseif record then
  local strikes, forget_at = string.match(record, '(%S+) (%S+)$')
  local left = call('PTTL', KEYS[4])
  local text = format('%.17g 0 %s %s', now, strikes, forget_at)
  call('SET', KEYS[4], text, 'PX', math.max(left, 1))
end
return {
  ends and tonumber(ends) > now_ms and 1 or 0,
  announce({kind = 'bans', lifted = subject, forget = ARGV[5] == '1'}),
}
