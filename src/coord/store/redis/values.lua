-- Averages and rate limits, as `store/value.rs` tells them.
--
--   KEYS[1]  a hash: the values, packed, by key
--   KEYS[2]  how far a sweep of them has come
--
-- Times are microseconds of the server's clock, and may have fractions. Numbers that aren't whole cross over as text.

-- At how many others a new value looks, about.
local COUNT = '16'

local VALUES, SWEPT = KEYS[1], KEYS[2]
local counts_until, operation, key = unpack(ARGV, 1, 3)
local arguments = { unpack(ARGV, 4) }

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
if now > tonumber(counts_until) then
    return redis.status_reply('LATE')
end

-- A value as of now, if it isn't over, and whether the clock was set back: then no time has gone by since it was written, as
-- far as anybody knows.
local function unpacked(packed)
    local value, was_set_back = cmsgpack.unpack(packed), false
    if now < value.since then
        value.ends = value.ends and now + (value.ends - value.since)
        value.since, was_set_back = now, true
    end
    if value.ends and value.ends <= now then
        return nil
    end
    return value, was_set_back
end

local function store(value)
    redis.call('HSET', VALUES, key, cmsgpack.pack(value))
end

local function load()
    local packed = redis.call('HGET', VALUES, key)
    if not packed then
        return nil
    end
    local value, was_set_back = unpacked(packed)
    if was_set_back then
        -- From now on its time goes by.
        store(value)
    end
    return value
end

-- Looks at some others, and takes out those that are over.
local function sweep()
    local found = redis.call('HSCAN', VALUES, redis.call('GET', SWEPT) or '0', 'COUNT', COUNT)
    for at = 1, #found[2], 2 do
        if not unpacked(found[2][at + 1]) then
            redis.call('HDEL', VALUES, found[2][at])
        end
    end
    redis.call('SET', SWEPT, found[1])
end

local function mean(value)
    return { 'mean', string.format('%.17g', value.total), value.count }
end

local function other(value)
    return { 'other', value.kind, value.count, value.per or '' }
end

local operations = {}

function operations.add(number, expire, tag)
    local value = load()
    if value and value.kind ~= 'average' then
        return other(value)
    end
    if not value then
        value = { kind = 'average', total = 0, count = 0 }
        sweep()
    end
    local total = value.total + tonumber(number)
    if total ~= total or total == math.huge or total == -math.huge then
        return { 'infinite' }
    end
    value.total, value.count = total, value.count + 1
    value.since = now
    value.ends = expire ~= '' and now + tonumber(expire) or nil
    value.tag = tag ~= '' and tag or value.tag
    store(value)
    return mean(value)
end

function operations.get()
    local value = load()
    if not value then
        return { 'none' }
    end
    return value.kind == 'average' and mean(value) or other(value)
end

function operations.pop()
    local answer = operations.get()
    if answer[1] == 'mean' then
        redis.call('HDEL', VALUES, key)
    end
    return answer
end

-- Takes a permit if that is due soon enough.
function operations.take(count, per, interval, longest, tag)
    count, interval = tonumber(count), tonumber(interval)
    local value = load()
    if value and (value.kind ~= 'rate' or value.count ~= count or value.per ~= per) then
        return other(value)
    end
    if not value then
        -- Numbers that nobody had of a value before it.
        value = { kind = 'rate', count = count, per = per, ends = now, turns = now }
        sweep()
    end
    local next = value.ends + interval
    local wait = math.max(next - (now + interval * count), 0)
    if wait > tonumber(longest) then
        return { 'refused', string.format('%.17g', wait) }
    end
    value.ends, value.since, value.turns = next, now, value.turns + 1
    value.tag = tag ~= '' and tag or value.tag
    store(value)
    return { 'taken', string.format('%.17g', wait), value.turns }
end

-- Gives a permit back, if nobody has taken one since.
function operations.put_back(count, per, interval, turns)
    local value = load()
    if value and value.kind == 'rate' and value.count == tonumber(count) and value.per == per
        and value.turns == tonumber(turns) then
        value.ends = value.ends - tonumber(interval)
        -- The one before is the last again.
        value.turns = value.turns - 1
        store(value)
    end
    return { 'none' }
end

-- Takes out all that has a tag. The key is the tag here.
function operations.evict()
    local count, cursor = 0, '0'
    repeat
        local found = redis.call('HSCAN', VALUES, cursor, 'COUNT', '1000')
        cursor = found[1]
        for at = 1, #found[2], 2 do
            local value = unpacked(found[2][at + 1])
            if value and value.tag == '=' .. key then
                count = count + redis.call('HDEL', VALUES, found[2][at])
            end
        end
    until cursor == '0'
    return { 'evicted', count }
end

return operations[operation](unpack(arguments))
