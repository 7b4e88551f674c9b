-- The sandbox around scripts. Lua 5.1 has no read-only tables: what scripts must not change is kept behind empty
-- stand-ins, and the few functions that could tell the difference are replaced here.
-- Called once with what Rust gives; returns what Rust needs.
local given = ...
local reveal, unveil, place, kind = given.reveal, given.unveil, given.place, given.kind

local error, type, tostring, select, unpack = error, type, tostring, select, unpack
local next0, pairs0, rawget0, rawset0 = next, pairs, rawget, rawset
local setmetatable0, getmetatable0 = setmetatable, getmetatable
local pcall0, xpcall0, loadstring0 = pcall, xpcall, loadstring
local resume0 = coroutine.resume
local byte, concat = string.byte, table.concat

local globals = given.globals
local READONLY = "Attempt to modify a readonly table"

-- stand-in -> the table behind it; stand-in -> what getmetatable says of it
local behind, shown_meta = {}, {}

local function refuse()
  error(READONLY, 2)
end

local function protect(real, meta)
  local standin = setmetatable0({}, { __index = real, __newindex = refuse })
  behind[standin] = real
  shown_meta[standin] = meta
  return standin
end

local function missing(_, key)
  local key_type = type(key)
  if key_type ~= "string" and key_type ~= "number" then
    error("Second argument to luaProtectedTableError must be a string or number", 2)
  end
  error("Script attempted to access nonexistent global variable '" .. key .. "'", 2)
end

-- The handler of errors that no script catches: it tells where they were raised.
local function on_error(problem)
  problem = unveil(problem)
  if type(problem) ~= "table" then problem = { err = "ERR " .. tostring(problem) } end
  local source, line = place()
  if source then problem.source, problem.line = source, line end
  return problem
end

local function wanted(position, name, what, ...)
  local got = "no value"
  if select("#", ...) >= position then got = type((select(position, ...))) end
  error("bad argument #" .. position .. " to '" .. name .. "' (" .. what .. " expected, got " .. got .. ")", 3)
end

-- ---- functions that see tables

local function next1(...)
  local table, key = ...
  if type(table) ~= "table" then wanted(1, "next", "table", ...) end
  local real = behind[table]
  if real then return next0(real, key) end
  return next0(table, key)
end
globals.next = next1

function globals.pairs(...)
  local table = ...
  if type(table) ~= "table" then wanted(1, "pairs", "table", ...) end
  if behind[table] then return next1, table, nil end
  return next0, table, nil
end

function globals.rawget(...)
  local table, key = ...
  if type(table) ~= "table" then wanted(1, "rawget", "table", ...) end
  if select("#", ...) < 2 then error("bad argument #2 to 'rawget' (value expected)", 2) end
  return rawget0(behind[table] or table, key)
end

function globals.rawset(...)
  local table, key, value = ...
  if type(table) ~= "table" then wanted(1, "rawset", "table", ...) end
  local given_count = select("#", ...)
  if given_count < 3 then
    error("bad argument #" .. given_count + 1 .. " to 'rawset' (value expected)", 2)
  end
  if behind[table] then error(READONLY, 0) end
  if key == nil then error("table index is nil", 0) end
  return rawset0(table, key, value)
end

function globals.setmetatable(...)
  local table, meta = ...
  if type(table) ~= "table" then wanted(1, "setmetatable", "table", ...) end
  if meta ~= nil and type(meta) ~= "table" or select("#", ...) < 2 then
    error("bad argument #2 to 'setmetatable' (nil or table expected)", 2)
  end
  if behind[table] then error(READONLY, 0) end
  local old = getmetatable0(table)
  if old ~= nil and (type(old) ~= "table" or rawget0(old, "__metatable") ~= nil) then
    error("cannot change a protected metatable", 2)
  end
  return setmetatable0(table, meta)
end

local string_meta
function globals.getmetatable(...)
  if select("#", ...) == 0 then error("bad argument #1 to 'getmetatable' (value expected)", 2) end
  local value = ...
  local value_type = type(value)
  if value_type == "table" and behind[value] then return shown_meta[value] end
  if value_type == "string" then return string_meta end
  if value_type == "userdata" or value_type == "function" then return nil end
  return getmetatable0(value)
end

-- ---- functions that see errors: those of the server's own functions are unveiled first

local function settle(ok, problem, ...)
  if ok then return true, problem, ... end
  problem = reveal(problem)
  if type(problem) == "table" then
    local text = problem.err
    if type(text) == "string" or type(text) == "number" then problem = text end
  end
  return false, problem
end

local function settle_plainly(ok, problem, ...)
  if ok then return true, problem, ... end
  return false, reveal(problem)
end

function globals.pcall(...)
  if select("#", ...) == 0 then return false end
  return settle(pcall0(...))
end

function globals.xpcall(body, handler)
  return settle_plainly(xpcall0(body, function(problem) return handler(reveal(problem)) end))
end

function globals.coroutine.resume(...)
  if type((...)) ~= "thread" then error("bad argument #1 to 'resume' (coroutine expected)", 2) end
  return settle_plainly(resume0(...))
end

-- ---- code from text only

local function load_text(text, name)
  -- Compiled code is not taken; with a space before it the mark of it is an ordinary (bad) character.
  if byte(text, 1) == 27 then return loadstring0(" " .. text, name or text) end
  return loadstring0(text, name)
end

function globals.loadstring(...)
  local text, name = ...
  if type(text) == "number" then text = tostring(text) end
  if type(text) ~= "string" then wanted(1, "loadstring", "string", ...) end
  return load_text(text, name)
end

local function gather(reader)
  local pieces = {}
  while true do
    local piece = reader()
    if piece == nil or piece == "" then return concat(pieces) end
    if type(piece) ~= "string" then error("reader function must return a string", 0) end
    pieces[#pieces + 1] = piece
  end
end

function globals.load(...)
  local reader, name = ...
  if type(reader) ~= "function" then wanted(1, "load", "function", ...) end
  local ok, text = pcall0(gather, reader)
  if not ok then return nil, reveal(text) end
  return load_text(text, name or "=(load)")
end

-- ---- what scripts see

for name in pairs0(globals) do
  if not given.allowed[name] then rawset0(globals, name, nil) end
end
for name, library in pairs0(given.libraries) do globals[name] = library end

for _, name in pairs0({ "string", "table", "math", "coroutine", "cjson", "cmsgpack", "struct", "bit", "redis" }) do
  globals[name] = protect(globals[name])
end
getmetatable0("").__index = globals.string
string_meta = protect({ __index = globals.string })

local outer_meta = { __index = globals, __newindex = refuse }
local outer = setmetatable0({}, outer_meta)
behind[outer] = globals
shown_meta[outer] = protect({ __index = missing })
setmetatable0(globals, { __index = missing })
globals._G = outer

local loading
if kind == "functions" then
  loading = setmetatable0({ redis = protect(setmetatable0(given.loading, { __index = missing })) }, { __index = missing })
else
  globals.__redis__err__handler = on_error
end

-- ---- running

-- Nothing may stay in a stand-in (the C functions of `table` could put something there).
local function clean()
  for standin in next0, behind do
    if next0(standin) ~= nil then
      for key in pairs0(standin) do rawset0(standin, key, nil) end
    end
  end
end

local function ended(ok, ...)
  clean()
  return ok, ...
end

local function run(body)
  return ended(xpcall0(body, on_error))
end

local function run_with(body, keys, args)
  return ended(xpcall0(function() return body(keys, args) end, on_error))
end

local function load_library(body)
  outer_meta.__index = loading
  behind[outer] = loading
  local ok, problem = pcall0(body)
  outer_meta.__index = globals
  behind[outer] = globals
  clean()
  if ok then return true end
  local shown, text = pcall0(reveal, problem)
  if not shown then return false, problem end
  return false, text
end

-- The functions here have an environment that a script could get at: nothing is left in it.
for name in next0, given.environment do given.environment[name] = nil end

return { outer = outer, globals = globals, run = run, run_with = run_with, load_library = load_library }
