-- Which of its grants a session still has.
--
--   KEYS[1]  who holds, by key, as in `line.lua`
--   ARGV     a key and a token, and so on

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local held = {}
for at = 1, #ARGV, 2 do
    local packed = redis.call('HGET', KEYS[1], ARGV[at])
    for _, holder in ipairs(packed and cmsgpack.unpack(packed) or {}) do
        if holder.token == tonumber(ARGV[at + 1]) and now < holder.expires then
            table.insert(held, holder.token)
        end
    end
end
return held
