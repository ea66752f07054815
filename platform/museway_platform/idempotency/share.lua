-- One key of one request, shared by gateway processes: "R" and who runs it, or "D" and the sealed answer.
-- ARGV: what to do, the claim ("R…"), milliseconds, the value of a finished one ("D…").
-- Gives what stands there: "" where the claim was taken or was ours.
local key, verb, claim, ms = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local now = redis.call('GET', key)
if verb == 'look' then
  return now or ''
elseif verb == 'claim' then
  if now and now ~= claim then return now end
  redis.call('SET', key, claim, 'PX', ms)
elseif now and now ~= claim then
  return now
elseif verb == 'renew' then
  redis.call('SET', key, claim, 'PX', ms)
elseif verb == 'done' then
  redis.call('SET', key, ARGV[4], 'PX', ms)
elseif verb == 'free' then
  redis.call('DEL', key)
end
return ''
