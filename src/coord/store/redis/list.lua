-- Who holds and who waits, of all keys that are named, as of one moment.
--
--   KEYS[1]  who holds, by key, as in `line.lua`
--   KEYS[2]… who waits for each of the keys
--   ARGV     the keys

local HELD = KEYS[1]
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
    for _, packed in ipairs(redis.call('ZRANGE', KEYS[at + 1], 0, -1)) do
        table.insert(waiters, row(cmsgpack.unpack(packed)))
    end
    table.insert(lines, { key, holders, waiters })
end
return lines
