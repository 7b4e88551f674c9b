-- What a decoder reads is normalised by one way out and in (numbers lose digits, deep values are cut); from then on the
-- ways out and in change nothing. What is refused is no fault.

local function same(a, b)
    if type(a) ~= 'table' or type(b) ~= 'table' then
        return a == b or a ~= a and b ~= b
    end
    -- A table that is a key is found again by nobody.
    for key, value in pairs(a) do
        if type(key) ~= 'table' and not same(value, b[key]) then return false end
    end
    for key in pairs(b) do
        if type(key) ~= 'table' and a[key] == nil then return false end
    end
    return true
end

local function kept(ok, ...)
    if ok then return {...} end
end

local function holds(encode, decode, bytes)
    local function again(ok, ...)
        if not ok then return false end
        local written, text = pcall(encode, ...)
        if not written then return false end
        local read = kept(pcall(decode, text))
        return read ~= nil, read
    end
    local ok, first = again(pcall(decode, bytes))
    if not ok then return end
    local once_more, second = again(true, unpack(first, 1, table.maxn(first)))
    -- A key that lay too deep is written as nil, and refused.
    assert(not once_more or same(first, second), 'written and read again it differs')
end

local decoders = {
    [0] = function(bytes) holds(cjson.encode, cjson.decode, bytes) end,
    [1] = function(bytes) holds(cmsgpack.pack, cmsgpack.unpack, bytes) end,
    [2] = function(bytes)
        local at = bytes:find('\0', 1, true) or #bytes + 1
        local format, data = bytes:sub(1, at - 1), bytes:sub(at + 1)
        pcall(struct.size, format)
        local function pack(ok, ...)
            if ok then pcall(struct.pack, format, ...) end
        end
        pack(pcall(struct.unpack, format, data))
    end,
}

return function(which, bytes) decoders[which](bytes) end
