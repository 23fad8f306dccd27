-- Who holds and who waits, of all keys that are named, as of one moment.
--
--   KEYS[1]  who holds, by key, as in `line.lua`
--   KEYS[2]  when who waits has looked last
--   KEYS[3]… who waits for each of the keys
--   ARGV     the keys
--
-- Who waits and hasn't looked for so long that it is passed isn't listed: it may be dead, and then it keeps nobody.

-- As in `line.lua`.
local ABSENT = 3000000

local HELD, SEEN = KEYS[1], KEYS[2]
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

local function row(one)
    return {
        one.token or 0, one.ticket or 0, one.session, one.number, one.mode, one.permits, one.lease,
        one.strict and 1 or 0, one.since, one.slot or 0, math.max((one.expires or 0) - now, 0), one.renewals or 0,
        one.kind, one.tag, one.about,
    }
end

local lines = {}
for at, key in ipairs(ARGV) do
    local holders, waiters = {}, {}
    local packed_holders = redis.call('HGET', HELD, key)
    for _, holder in ipairs(packed_holders and cmsgpack.unpack(packed_holders) or {}) do
        if now < holder.expires then
            table.insert(holders, row(holder))
        end
    end
    for _, packed in ipairs(redis.call('ZRANGE', KEYS[at + 2], 0, -1)) do
        local waiter = cmsgpack.unpack(packed)
        local last_look = tonumber(redis.call('ZSCORE', SEEN, waiter.session) or 0)
        if last_look >= now - ABSENT and not waiter.lapsed then
            table.insert(waiters, row(waiter))
        end
    end
    table.insert(lines, { key, holders, waiters })
end
return lines
