-- The line of a key, where its rows lie: the rules of `store/line.rs`, and what is different where nobody sees who dies.
--
-- Each call is one script, and a script runs alone. It loads who holds the key, takes out what has ended, does what is
-- asked for, writes what is different, and rings those who are to look again.
--
--   KEYS[1]  a hash: the last number that was given out; which server this is, since when, and for how long from then on
--            others may hold what it doesn't know; the longest lease that may not have ended, and when all have
--   KEYS[2]  a hash: who holds it, by key, packed; there for keys that are held or waited for
--   KEYS[3]  a sorted set: who waits for the key, packed, by ticket
--   KEYS[4]  a sorted set: the sessions that wait, by when they have looked last
--
-- A waiter has: ticket, session, number (its bell), mode, permits, lease, kind (of lease), strict, tag, about, since; due: from
-- when on nobody may pass it, zero as long as it isn't the first; lapsed: since when it is passed, until it looks; free_after:
-- the last number when its place came free. A holder has the same, and token, slot, expires, renewals; is_accepted is false
-- until its waiter has looked.
--
-- Times are microseconds of the server's clock, which is read once. Numbers stay below 2^53. Where one is made part of a text
-- that is said with a format, since Lua would round it.

-- For how long the first waiter lets others pass: some round trips.
local PATIENCE = 5000
-- For how long a waiter keeps what it was granted until it has looked: then the next one gets it.
local ACCEPT = 2000000
-- Who waits looks every second. After so long without that it is passed, and keeps its place;
local ABSENT = 3000000
-- and after so long it has none any more.
local GONE = 60000000

-- A longer lease counts as one of a day, for how long others may hold what was forgotten.
local DAY = 86400000000
-- How far the numbers go on when some may have been forgotten.
local FORGOTTEN = 10000000

local META, HELD, LINE, SEEN = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local server, is_new, counts_listeners, lease_of_sessions, own_grace, counts_until, counts_for, session, operation, key =
    unpack(ARGV, 1, 10)
local arguments = { unpack(ARGV, 11) }

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
if now > tonumber(counts_until) or tonumber(counts_until) > now + tonumber(counts_for) + 1000000 then
    -- Nobody waits for the answer, or the clock was set back, and nobody can tell.
    return redis.status_reply('LATE')
end

local stored = redis.call('HMGET', META, 'number', 'server', 'changed', 'doubt', 'longest', 'lasts_until')
local number = tonumber(stored[1] or 0)
local changed = tonumber(stored[3] or 0)
local doubt = tonumber(stored[4] or 0)
-- The longest lease of those that may not have ended, and when all of them have.
local longest = tonumber(stored[5] or 0)
local lasts_until = tonumber(stored[6] or 0)

local holders = {}
local has_changed = false
local has_numbered = false
local to_ring = {}
-- What was found to be the first waiter, until the waiters change.
local known_head = nil

if stored[2] ~= server then
    if is_new ~= '1' then
        -- The connection is older than what is here, and may go to a server that isn't what it was.
        return redis.status_reply('LOOK')
    end
    -- What was granted before may be forgotten, and its holders don't know yet.
    -- Another server may have begun at the same number before, and given out some, one by one, and all that may be forgotten as
    -- well. So the step grows with the time, faster than numbers are given out: a hundred in ten milliseconds.
    number = math.max(number + math.floor((now - changed) / 100), now) + FORGOTTEN
    changed = now
    doubt = math.max(longest, tonumber(lease_of_sessions))
    redis.call('HSET', META, 'server', server, 'changed', changed, 'doubt', doubt, 'number', number)
elseif changed > now then
    -- The clock was set back. It is written down, or it would be now each time.
    changed = now
    redis.call('HSET', META, 'changed', changed)
end
-- Until then nothing is granted.
local grace = changed + (tonumber(own_grace) or doubt)

local function next_number()
    number = math.max(number + 1, now)
    has_numbered = true
    return number
end

local function remember_lease(lease)
    lease = math.min(lease, DAY)
    longest = now > lasts_until and lease or math.max(longest, lease)
    lasts_until = math.max(lasts_until, now + lease)
    has_numbered = true
end

local function ring(waiter)
    table.insert(to_ring, { waiter.session, waiter.number })
end

-- Rings at once. False if nobody listens there: the connection of whoever waits is gone, and mostly all of it. In a cluster it
-- may listen at another server. If this user may not publish that isn't known, and who waits looks within a second.
local function ring_heard(waiter)
    local bell = string.sub(META, 1, -5) .. 'bell:' .. waiter.session
    local listeners = redis.pcall('PUBLISH', bell, waiter.number)
    return listeners ~= 0 or counts_listeners ~= '1' or waiter.session == session
end

local function queue(waiter)
    known_head = nil
    redis.call('ZADD', LINE, waiter.ticket, cmsgpack.pack(waiter))
    redis.call('PEXPIRE', LINE, 2 * GONE / 1000)
end

local function remove(packed)
    known_head = nil
    redis.call('ZREM', LINE, packed)
end

local function change(waiter, packed)
    remove(packed)
    queue(waiter)
end

-- Whether the first waiter may be passed. A moment further ahead than it can be is from before the clock was set back.
local function may_be_passed(waiter)
    return now < waiter.due and waiter.due <= now + PATIENCE
end

local function due(waiter)
    return waiter.strict and now or now + PATIENCE
end

-- The first waiter that is there, and how it lies there.
local function find_head()
    local at = 0
    while true do
        local packed = redis.call('ZRANGE', LINE, at, at)[1]
        if not packed then
            return nil
        end
        local waiter = cmsgpack.unpack(packed)
        local last_look = tonumber(redis.call('ZSCORE', SEEN, waiter.session) or 0)
        if math.min(last_look, waiter.lapsed or last_look) < now - GONE then
            redis.call('ZREM', LINE, packed)
            has_changed = true
        elseif last_look < now - ABSENT or waiter.lapsed then
            at = at + 1
        else
            return waiter, packed
        end
    end
end

local function head()
    if not known_head then
        known_head = { find_head() }
    end
    return unpack(known_head)
end

-- The slot that somebody would get beside those who hold it.
local function room_for(mode, permits)
    if mode == 'exclusive' then
        return #holders == 0 and 0 or nil
    elseif mode == 'shared' then
        for _, holder in ipairs(holders) do
            if holder.mode ~= 'shared' then
                return nil
            end
        end
        return 0
    end
    local taken = {}
    for _, holder in ipairs(holders) do
        if holder.mode ~= 'permit' then
            return nil
        end
        taken[holder.slot] = true
    end
    for slot = 0, permits - 1 do
        if not taken[slot] then
            return slot
        end
    end
    return nil
end

local function grant(ask, slot, expires)
    local holder = {
        token = next_number(), session = ask.session, number = ask.number, ticket = ask.ticket or 0,
        mode = ask.mode, permits = ask.permits, lease = ask.lease, strict = ask.strict, kind = ask.kind,
        tag = ask.tag, about = ask.about,
        slot = slot, expires = expires, renewals = 0, since = now,
    }
    table.insert(holders, holder)
    has_changed = true
    remember_lease(ask.lease)
    return holder
end

-- Grants to the first as long as there is room, and tells the next one that it is the first now.
local function settle()
    local waiter, packed = head()
    while waiter and now >= grace do
        local slot = room_for(waiter.mode, waiter.permits)
        if not slot then
            break
        end
        if ring_heard(waiter) then
            remove(packed)
            grant(waiter, slot, now + ACCEPT).is_accepted = false
        else
            -- It keeps its place, and is passed until it looks.
            waiter.lapsed = now
            change(waiter, packed)
            has_changed = true
        end
        waiter, packed = head()
    end
    if waiter and waiter.due == 0 then
        waiter.due = due(waiter)
        change(waiter, packed)
        ring(waiter)
    end
end

-- Takes out what has ended. What a waiter was granted and hasn't taken in time makes it a waiter again, in its old place,
-- who is passed until it looks.
local function prune()
    local lasting = {}
    for _, holder in ipairs(holders) do
        local longest_end = now + math.max(holder.lease, ACCEPT)
        if holder.expires > longest_end then
            -- The clock was set back.
            holder.expires = longest_end
            has_changed = true
        end
        if now < holder.expires then
            table.insert(lasting, holder)
        elseif holder.is_accepted == false then
            queue({
                ticket = holder.ticket, session = holder.session, number = holder.number,
                mode = holder.mode, permits = holder.permits, lease = holder.lease, strict = holder.strict,
                kind = holder.kind, tag = holder.tag, about = holder.about, since = holder.since, due = 1, lapsed = now,
            })
        end
    end
    if #lasting < #holders then
        holders = lasting
        has_changed = true
        settle()
    end
end

local function is_own(row, wanted)
    return row.session == session and row.number == wanted
end

local function own_holder(wanted)
    for _, holder in ipairs(holders) do
        if is_own(holder, wanted) then
            return holder
        end
    end
end

-- The waiter with that number, and how it lies there. Without its ticket all of them are looked at.
local function own_waiter(wanted, ticket)
    local range = ticket > 0 and redis.call('ZRANGEBYSCORE', LINE, ticket, ticket) or redis.call('ZRANGE', LINE, 0, -1)
    for _, packed in ipairs(range) do
        local waiter = cmsgpack.unpack(packed)
        if is_own(waiter, wanted) then
            return waiter, packed
        end
    end
end

local function granted(holder)
    return {
        'granted', holder.token, holder.ticket, holder.slot, holder.expires - now, holder.renewals, holder.since,
    }
end

-- Takes what was granted: from now on its lease lasts.
local function accept(holder)
    if holder.is_accepted == false then
        holder.is_accepted = nil
        holder.expires = now + holder.lease
        has_changed = true
    end
    return granted(holder)
end

-- How somebody who waits stands.
local function standing(waiter)
    local first = head()
    if not first or first.ticket ~= waiter.ticket then
        return { 'waiting', waiter.ticket, 0, 0 }
    end
    local look_at = grace
    local free_after = 0
    if now >= grace then
        look_at = math.huge
        for _, holder in ipairs(holders) do
            look_at = math.min(look_at, holder.expires)
        end
        if now < first.due then
            look_at = math.min(look_at, first.due)
        end
        -- It takes what is free if nobody comes. If somebody has, others will, until it is due.
        if number == first.free_after and room_for(first.mode, first.permits) then
            free_after = number
        end
    end
    local look_in = look_at < math.huge and math.max(look_at - now, 1) or 0
    return { 'waiting', waiter.ticket, free_after, look_in }
end

-- What the key is in use as, if that isn't what is wanted.
local function other_use(mode, permits)
    local user = holders[1] or head()
    if not user then
        -- Also one who is passed has its place.
        local packed = redis.call('ZRANGE', LINE, 0, 0)[1]
        user = packed and cmsgpack.unpack(packed)
    end
    if user and ((user.mode == 'permit') ~= (mode == 'permit') or user.permits ~= permits) then
        return { 'other', user.mode, user.permits }
    end
end

local operations = {}

-- Grants it, or queues or refuses who asks. Whoever asks again, because no answer came, gets what it has.
function operations.enter(number_of_ask, mode, permits, lease, is_strict, may_wait, asks_again, kind, tag, about)
    local ask = {
        session = session, number = tonumber(number_of_ask), mode = mode, permits = tonumber(permits),
        lease = tonumber(lease), strict = is_strict == '1', kind = kind, tag = tag, about = about,
        since = now,
    }
    local has = own_holder(ask.number)
    if has then
        return accept(has)
    end
    local waits = asks_again == '1' and own_waiter(ask.number, 0)
    if waits then
        return standing(waits)
    end
    local other = other_use(ask.mode, ask.permits)
    if other then
        return other
    end
    local first = head()
    if first and not may_be_passed(first) then
        settle()
        first = head()
    end
    local slot = room_for(ask.mode, ask.permits)
    local may_pass = not first or not ask.strict and may_be_passed(first)
    if slot and may_pass and now >= grace then
        return granted(grant(ask, slot, now + ask.lease))
    end
    if may_wait ~= '1' then
        return { 'refused' }
    end
    ask.ticket = next_number()
    ask.due = first and 0 or due(ask)
    queue(ask)
    has_changed = true
    redis.call('ZREMRANGEBYSCORE', SEEN, '-inf', now - GONE)
    redis.call('ZADD', SEEN, now, session)
    return standing(ask)
end

-- How somebody who waits stands, who is there, as this shows. If it was granted something it has taken it.
function operations.look(number_of_ask, ticket, takes_what_is_free)
    redis.call('ZADD', SEEN, now, session)
    redis.call('PEXPIRE', LINE, 2 * GONE / 1000)
    known_head = nil
    local wanted = tonumber(number_of_ask)
    local waiter, packed = own_waiter(wanted, tonumber(ticket))
    if waiter and waiter.lapsed then
        waiter.lapsed = nil
        change(waiter, packed)
    end
    local first = head()
    if first and (takes_what_is_free == '1' or not may_be_passed(first)) then
        settle()
    end
    local holder = own_holder(wanted)
    if holder then
        return accept(holder)
    end
    return waiter and standing(waiter) or { 'gone' }
end

-- Takes a waiter out. If it was granted something before, that is what comes back.
function operations.leave(number_of_ask, ticket)
    local holder = own_holder(tonumber(number_of_ask))
    if holder then
        return accept(holder)
    end
    local waiter, packed = own_waiter(tonumber(number_of_ask), tonumber(ticket))
    if waiter then
        remove(packed)
        has_changed = true
        settle()
    end
    return { 'gone' }
end

local function take_back(token)
    for at, holder in ipairs(holders) do
        if holder.token == token then
            table.remove(holders, at)
            has_changed = true
            return true
        end
    end
    return false
end

function operations.release(token)
    if not take_back(tonumber(token)) then
        return 0
    end
    local first, packed = head()
    if first and may_be_passed(first) then
        -- It is told once. After that it looks by itself when it is due.
        if not first.free_after then
            first.free_after = number
            change(first, packed)
            ring(first)
        end
    else
        settle()
    end
    return 1
end

function operations.force_unlock(token)
    if not take_back(tonumber(token)) then
        return 0
    end
    settle()
    return 1
end

-- From now on the lease lasts for that long. One of the session that its holder extends isn't renewed any more.
function operations.extend(token, lease, is_renewal)
    for _, holder in ipairs(holders) do
        if holder.token == tonumber(token) then
            local before = holder.expires
            holder.lease = tonumber(lease)
            holder.expires = now + holder.lease
            holder.renewals = holder.renewals + 1
            holder.is_accepted = nil
            if is_renewal == '0' and holder.kind == 'session' then
                holder.kind = 'fixed'
            end
            has_changed = true
            remember_lease(holder.lease)
            local first = head()
            if first and holder.expires < before then
                -- It sleeps until the end that it knows.
                ring(first)
            end
            return 1
        end
    end
    return 0
end

-- Takes out what is held with that tag. Answers how many there were.
function operations.evict(tag)
    local count = 0
    for at = #holders, 1, -1 do
        if holders[at].tag == tag then
            table.remove(holders, at)
            count = count + 1
        end
    end
    has_changed = true
    settle()
    return count
end

-- Takes out all that belongs to this session.
function operations.withdraw()
    for at = #holders, 1, -1 do
        if holders[at].session == session then
            table.remove(holders, at)
        end
    end
    for _, packed in ipairs(redis.call('ZRANGE', LINE, 0, -1)) do
        if cmsgpack.unpack(packed).session == session then
            remove(packed)
        end
    end
    has_changed = true
    settle()
    return 1
end

-- Looks at some other keys, and takes out those that nobody holds any more. Who waits for one looks, and is granted it.
local function sweep()
    local found = redis.call('HSCAN', HELD, redis.call('HGET', META, 'swept') or '0', 'COUNT', '10')
    for at = 1, #found[2], 2 do
        local others = cmsgpack.unpack(found[2][at + 1])
        local are_over = #others > 0
        for _, holder in ipairs(others) do
            are_over = are_over and holder.expires <= now
        end
        if are_over then
            redis.call('HDEL', HELD, found[2][at])
        end
    end
    redis.call('HSET', META, 'swept', found[1])
end

local packed_holders = redis.call('HGET', HELD, key)
if packed_holders then
    holders = cmsgpack.unpack(packed_holders)
end
prune()
local answer = operations[operation](unpack(arguments))
if has_changed then
    if #holders == 0 and redis.call('ZCARD', LINE) == 0 then
        redis.call('HDEL', HELD, key)
    else
        redis.call('HSET', HELD, key, cmsgpack.pack(holders))
    end
end
if has_numbered then
    redis.call('HSET', META, 'number', number, 'longest', longest, 'lasts_until', lasts_until)
    if not packed_holders then
        sweep()
    end
end
for _, bell in ipairs(to_ring) do
    -- It is done, whether or not this user may publish: who waits looks within a second.
    redis.pcall('PUBLISH', string.sub(META, 1, -5) .. 'bell:' .. bell[1], bell[2])
end
return answer
