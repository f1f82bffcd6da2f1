-- A gateway that is gone takes this object with it; one that cannot write it is unready as a Pod.
local status = obj.status or {}
if status.renewTime == nil then
  return { status = "Progressing", message = "its pilot has not reported yet" }
end
return { status = "Healthy", message = "holds requests of " .. #(status.held or {}) .. " services" }
