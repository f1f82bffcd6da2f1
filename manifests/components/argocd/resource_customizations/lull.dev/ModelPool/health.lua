-- A pool without hosts is healthy: they come when a service wakes.
local status = obj.status or {}
local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end

if conditions.Ready == nil or status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "Lull has not looked at this generation yet" }
end
if conditions.Ready.status ~= "True" then
  return { status = "Degraded", message = conditions.Ready.reason .. ": " .. (conditions.Ready.message or "") }
end
local hosts = status.hosts or { ready = 0, total = 0 }
return { status = "Healthy", message = hosts.ready .. " of " .. hosts.total .. " hosts are ready" }
