"""Argo CD's health scripts, read as they are committed and run in the Lua that Argo CD speaks, 5.1."""

from pathlib import Path
from typing import Any

from lupa.lua51 import LuaRuntime

ARGOCD = Path(__file__).parents[2] / "manifests" / "components" / "argocd"
KINDS = ("ModelService", "ModelPool", "ModelHost", "ModelGateway")

_ONLY_WHAT_ARGO_CD_OPENS = """
debug.setmetatable("", nil)
for _, library in ipairs({"string", "math", "io", "os", "debug", "coroutine"}) do _G[library] = nil end
"""


def script(kind: str) -> str:
    """Return the health script of a kind."""
    return (ARGOCD / "resource_customizations" / "lull.dev" / kind / "health.lua").read_text()


def health(item: dict[str, Any]) -> tuple[str, str]:
    """Return what Argo CD shows of an object: its health, and why."""
    lua = LuaRuntime(register_eval=False, register_builtins=False)
    lua.execute(_ONLY_WHAT_ARGO_CD_OPENS)
    lua.globals()["obj"] = lua.table_from(item, recursive=True)
    said = lua.execute(script(item["kind"]))
    return str(said["status"]), str(said["message"])
