-- Lets a gRPC request pass only while every message in it names the model of its host.
--
-- gRPC carries the model's name inside the message (field 1 of each request of inference.GRPCInferenceService
-- that names a model), so a client of one service could name a neighbour on the same Triton. This walks over
-- the frames and their top-level fields as the chunks pass by, skipping over tensors; nothing is buffered or
-- copied, unary and streaming calls are the same, and split or repeated fields (the last one wins in protobuf)
-- do not get around it: the chunk that completes a wrong name is spoilt, before its frame is complete, and so
-- is everything after it. Triton never sees a whole message that names another model.
--
-- A script's error would let the request pass, so the walk runs in pcall and an error counts as a violation.

local FRAME, TAG, VARINT, LENGTH, SKIP, NAME = 1, 2, 3, 4, 5, 6
local WINDOW = 256
-- Top-level fields of one message: a field an input, output, tensor and parameter. Bounds the work a byte.
local MOST_FIELDS = 4096
-- A frame whose message names a model that cannot exist, so that Triton's answer tells the client why.
local TOLD = "this host serves another model than the message names"
local TELLING = "\0\0\0\0" .. string.char(#TOLD + 2) .. "\10" .. string.char(#TOLD) .. TOLD

-- No protobuf has it where a tag or a length stands, and no model's name has it.
local SPOILT = "\255"

local function new_walk(model)
  return {model = model, state = FRAME, head = "", frame = 0, value = 0, scale = 1, digits = 0, skip = 0,
          name = "", field = 0, fields = 0, clean = true, left = 0}
end

-- Begins a frame; returns false where it is compressed.
local function begin(walk, flag, a, b, c, d)
  walk.head = ""
  walk.fields = 0
  walk.frame = ((a * 256 + b) * 256 + c) * 256 + d
  walk.state = walk.frame > 0 and TAG or FRAME
  return flag == 0
end

-- Consumes one byte of framing, tag, varint or length; returns false on what must not pass.
local function take(walk, byte)
  if walk.state == FRAME then
    walk.head = walk.head .. string.char(byte)
    return #walk.head < 5 or begin(walk, string.byte(walk.head, 1, 5))
  end
  walk.frame = walk.frame - 1
  if walk.state == TAG then
    -- The known fields have tags of one byte; longer ones could spell field 1 in other ways.
    walk.fields = walk.fields + 1
    if byte >= 128 or walk.fields > MOST_FIELDS then return false end
    local kind = byte % 8
    walk.field = (byte - kind) / 8
    walk.value, walk.scale, walk.digits = 0, 1, 0
    if walk.field == 1 and kind ~= 2 then return false end
    if kind == 0 then walk.state = VARINT
    elseif kind == 1 then walk.state, walk.skip = SKIP, 8
    elseif kind == 2 then walk.state = LENGTH
    elseif kind == 5 then walk.state, walk.skip = SKIP, 4
    else return false end
  elseif walk.state == VARINT then
    if byte < 128 then walk.state = TAG end
  else
    walk.value = walk.value + (byte % 128) * walk.scale
    walk.scale = walk.scale * 128
    walk.digits = walk.digits + 1
    if byte >= 128 then return walk.digits < 5 end
    walk.skip = walk.value
    walk.name = ""
    walk.state = walk.field == 1 and NAME or SKIP
    if walk.field == 1 and walk.value ~= #walk.model then return false end
  end
  if walk.state == SKIP or walk.state == NAME then
    if walk.skip > walk.frame then return false end
    if walk.skip == 0 then walk.state = TAG end
  end
  if walk.frame == 0 then
    if walk.state ~= TAG then return false end
    walk.state = FRAME
  end
  return true
end

-- Passes over `count` bytes of a value; returns false where it was a wrong name.
local function pass(walk, count, text)
  if walk.state == NAME then
    walk.name = walk.name .. text
    if walk.skip == count and walk.name ~= walk.model then return false end
  end
  walk.skip = walk.skip - count
  walk.frame = walk.frame - count
  if walk.skip == 0 then walk.state = walk.frame > 0 and TAG or FRAME end
  return true
end

-- Consumes what is common and whole in the window without a look at each byte: a frame's head, and a short
-- field other than the name. Returns how many bytes it took (0: take them singly), and false on what must not
-- pass.
local function leap(walk, window, i)
  if walk.state == FRAME then
    if walk.head ~= "" or i + 4 > #window then return 0, true end
    return 5, begin(walk, string.byte(window, i, i + 4))
  end
  if walk.state ~= TAG then return 0, true end
  local tag, size = string.byte(window, i, i + 1)
  if not size or size >= 128 or tag >= 128 or tag % 8 ~= 2 or tag == 10 then return 0, true end
  local whole = size + 2
  if whole > walk.frame or i + whole - 1 > #window or walk.fields >= MOST_FIELDS then return 0, true end
  walk.fields = walk.fields + 1
  walk.frame = walk.frame - whole
  if walk.frame == 0 then walk.state = FRAME end
  return whole, true
end

local function check(walk, chunk)
  local length, at = chunk:length(), 0
  walk.clean = walk.state == FRAME and walk.head == ""
  walk.left = walk.frame
  while at < length do
    if walk.state == SKIP and walk.skip > 0 then
      local count = math.min(walk.skip, length - at)
      pass(walk, count, "")
      at = at + count
    else
      local window = chunk:getBytes(at, math.min(WINDOW, length - at))
      local i = 1
      while i <= #window do
        if walk.state == NAME then
          local count = math.min(walk.skip, #window - i + 1)
          if not pass(walk, count, string.sub(window, i, i + count - 1)) then return false end
          i = i + count
        elseif walk.state == SKIP then
          break
        else
          local taken, passed = leap(walk, window, i)
          if taken == 0 then taken, passed = 1, take(walk, string.byte(window, i)) end
          if not passed then return false end
          i = i + taken
        end
      end
      at = at + i - 1
    end
  end
  return true
end

-- Replaces a chunk that must not pass. A frame begun in an earlier chunk is filled to its end, as Triton would
-- wait for the rest of it; one that begins here is replaced by the frame that tells why.
local function spoil(walk, chunk)
  local count = math.min(walk.left, chunk:length())
  walk.left = walk.left - count
  chunk:setBytes(walk.clean and TELLING or string.rep(SPOILT, count))
  walk.clean = false
end

-- The model of this request: from its route where it is awake, from the pilot's answer where it was held.
local function allowed_model(handle)
  local context = handle:filterContext()
  local model = context and context:get("model")
  if model then return model end
  local told = handle:streamInfo():dynamicMetadata():get("envoy.filters.http.ext_authz")
  return told and told["model"]
end

local function refuse(handle, status, message)
  handle:respond({[":status"] = "200", ["content-type"] = "application/grpc", ["grpc-status"] = status,
                  ["grpc-message"] = message, ["grpc-accept-encoding"] = "identity"}, "")
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local path = headers:get(":path") or ""
  if string.sub(path, 1, 3) == "/v2" then return end  -- HTTP names its model in the path
  local model = allowed_model(handle)
  if model == "*" then return end
  if not model then return refuse(handle, "7", "refused: no model is known for this request") end
  local encoding = headers:get("grpc-encoding")
  if encoding and encoding ~= "identity" then
    return refuse(handle, "12", "compressed messages are not served: their model cannot be checked; "
                                .. "send without compression, or use HTTP")
  end
  local walk, refused = new_walk(model), false
  for chunk in handle:bodyChunks() do
    if not refused then
      local ran, passed = pcall(check, walk, chunk)
      refused = not (ran and passed)
    end
    if refused then spoil(walk, chunk) end
  end
end
