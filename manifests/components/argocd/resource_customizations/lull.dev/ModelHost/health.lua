-- A host is Lull's own: a model that fails on it degrades its service, not the host.
local ready
for _, condition in ipairs((obj.status or {}).conditions or {}) do
  if condition.type == "Ready" then
    ready = condition
  end
end

if ready == nil then
  return { status = "Progressing", message = "its Pod is starting" }
end
if ready.status ~= "True" and ready.reason == "Starting" then
  return { status = "Progressing", message = ready.message or "its Triton is starting" }
end
if ready.status ~= "True" then
  return { status = "Degraded", message = ready.reason .. ": " .. (ready.message or "") }
end
local models = #(obj.spec.models or {})
if (obj.metadata.annotations or {})["lull.dev/drain"] == "true" then
  if models > 0 then
    return { status = "Progressing", message = "being emptied: " .. models .. " models are still on it" }
  end
  return { status = "Suspended", message = "emptied, and takes no models while lull.dev/drain is true" }
end
return { status = "Healthy", message = "holds " .. models .. " models" }
