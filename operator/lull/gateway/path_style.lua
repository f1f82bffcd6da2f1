-- Moves /<namespace>/<name> of a path into the authority, for clients without wildcard DNS:
-- /demo/digits/v2/models/digits/infer asks what digits.demo.<domain>/v2/models/digits/infer asks.
-- The headers' change clears the route cache, so the request then takes the route of its service.
local DOMAIN = "@DOMAIN@"
-- <name>.<namespace>.<domain>: a service's own host takes no other's path, awake or asleep.
local SERVICE_HOST = "^[^.]+%.[^.]+%." .. string.gsub(DOMAIN, "%p", "%%%0") .. "$"

function envoy_on_request(handle)
  local headers = handle:headers()
  if string.match(string.lower(headers:get(":authority") or ""), SERVICE_HOST) then return end
  local path = headers:get(":path") or ""
  local namespace, name, rest = string.match(path, "^/([a-z0-9-]+)/([a-z0-9-]+)(/v2.*)$")
  -- /v2/models/v2 names a model: no namespace is reached by path where it is called v2.
  if namespace and namespace ~= "v2" and (rest == "/v2" or string.match(rest, "^/v2[/?]")) then
    headers:replace(":authority", name .. "." .. namespace .. "." .. DOMAIN)
    headers:replace(":path", rest)
    -- Filters were chosen by the route before: the check is here, and has to be told that it is not needed.
    if handle:metadata():get("awake") then
      handle:streamInfo():dynamicMetadata():set("lull", "awake", true)
    end
  end
end
