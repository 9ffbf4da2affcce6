-- For each question its keys (claim, order, click, names of the contact, as far as there are any) and
-- one argument, after the three limits: source, consent, event time, time of receipt, five digits
-- (claim? order? click? names of the contact, are its touches wanted?), digest and touch. Without a
-- claim it is a replay, which leaves nothing.
-- Answers the consent that holds, the click's first time and the contact's touches; '' as consent
-- for a record that is not the copy that counts.

local ORDER_MS, REMEMBERED_MS = ARGV[1], tonumber(ARGV[2])
local MAX_TOUCHES = tonumber(ARGV[3])

-- The value that came first, which is kept.
local function first(key, value, kept_ms, leaves)
  if not key then
    return value
  end
  if not leaves then
    return redis.call('GET', key) or value
  end
  return redis.call('SET', key, value, 'NX', 'GET', 'PX', kept_ms) or value
end

-- Takes away what does not count any more, then all between the first and the latest.
local function prune(key)
  local touches = {}
  local fields = redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    touches[#touches + 1] = {tonumber(string.match(fields[i + 1], '^%d+')), fields[i]}
  end
  table.sort(touches, function(a, b)
    return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2])
  end)
  local horizon = touches[#touches][1] - REMEMBERED_MS
  while touches[1][1] < horizon do
    redis.call('HDEL', key, table.remove(touches, 1)[2])
  end
  while #touches > MAX_TOUCHES do
    redis.call('HDEL', key, table.remove(touches, 2)[2])
  end
end

local function leave(key, digest, touch)
  if redis.call('HSETNX', key, digest, touch) == 1 then
    redis.call('PEXPIRE', key, REMEMBERED_MS)
    prune(key)
  end
end

local function answer(claim, order, click, contacts, asked)
  local token, own_consent, event_time, received_at, recalls, digest, touch =
    string.match(asked, '^(%S+) (%S+) (%S+) (%S+) %d%d%d%d(%d) (%S+) (.*)$')
  if claim and redis.call('GET', claim) ~= token then
    return {'', 0, {}}
  end
  local consent = first(order, own_consent, ORDER_MS, claim)
  local seen_at = first(click, event_time, REMEMBERED_MS, claim)
  local touches = {}
  for _, contact in ipairs(contacts) do
    if claim and touch ~= '' and string.sub(consent, 1, 1) ~= '0' then
      leave(contact, digest, table.concat({received_at, seen_at, token, touch}, ' '))
    end
    if recalls == '1' then
      for _, told in ipairs(redis.call('HVALS', contact)) do
        touches[#touches + 1] = told
      end
    end
  end
  return {consent, seen_at, touches}
end

local used = 0
local function take(wanted)
  if wanted == '0' then
    return nil
  end
  used = used + 1
  return KEYS[used]
end

local answers = {}
for i = 4, #ARGV do
  local has_claim, has_order, has_click, names =
    string.match(ARGV[i], '^%S+ %S+ %S+ %S+ (%d)(%d)(%d)(%d)')
  local claim, order, click = take(has_claim), take(has_order), take(has_click)
  local contacts = {}
  for n = 1, tonumber(names) do
    contacts[n] = take('1')
  end
  answers[i - 3] = answer(claim, order, click, contacts, ARGV[i])
end
return answers
