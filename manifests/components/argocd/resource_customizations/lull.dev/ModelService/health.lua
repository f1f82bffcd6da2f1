-- A service that sleeps is as healthy as one that serves: the next request wakes it.
local status = obj.status or {}
local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end

local function health(state, condition)
  local message = condition.reason
  if condition.message ~= nil and condition.message ~= "" then
    message = message .. ": " .. condition.message
  end
  return { status = state, message = message }
end

local function is(type, word)
  return conditions[type] ~= nil and conditions[type].status == word
end

if conditions.Ready == nil or status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "Lull has not looked at this generation yet" }
end
if conditions.Active ~= nil and conditions.Active.reason == "Suspended" then
  return health("Suspended", conditions.Active)
end
if is("Stalled", "True") then  -- also where it serves, but not as its spec says: InvalidSchedule, Rejected
  return health("Degraded", conditions.Stalled)
end
if is("Reconciling", "True") then
  return health("Progressing", conditions.Reconciling)
end
if is("Ready", "True") then
  return health("Healthy", conditions.Active or conditions.Ready)
end
return health("Progressing", conditions.Ready)
