"""A new revision gets no request before `lull evaluate --record` has found it good, and none if it is not."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from typer.testing import CliRunner

from e2e import models
from e2e.world import Service, World
from lull.api.names import REVISION_HEADER
from lull.cli import app

ROWS = np.eye(4, dtype=np.float32)[np.arange(40) % 4]
"""What the model gives back, so that it tells the class of each."""


def recorded(service: Service, labelled: Path) -> str:
    """Evaluate the candidate through the gateway, and record it; returns what is said."""
    url = service.targets()[0].url.partition("/v2/")[0]
    command = ["evaluate", service.name, "-n", service.namespace, "--data", str(labelled), "--url", url]
    done = CliRunner().invoke(app, [*command, "--record"])
    assert done.exit_code == 0, done.output
    return done.stderr


async def answered_by(service: Service) -> str:
    tensor = {"name": "input", "shape": [1, 4], "datatype": "FP32", "data": [1, 0, 0, 0]}
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(60)) as session,
        session.post(service.targets()[0].url, json={"inputs": [tensor]}) as response,
    ):
        assert response.status == 200, await response.text()
        return response.headers[REVISION_HEADER]


async def rolled_out(
    lull: World, service: Service, name: str, phase: str, message: str = ""
) -> dict[str, Any]:
    """Wait until the rollout is in a phase and says this; returns what its status says."""

    async def so() -> dict[str, Any] | None:
        told = (await service.get())["status"].get("rollout") or {}
        fits = told.get("phase") == phase and message in (told.get("message") or "")
        return told if fits else None

    found: dict[str, Any] = await lull.until(so, f"{name} is {phase}: {message}")
    return found


async def test_a_revision_waits_for_its_evaluation_and_a_poor_one_is_rejected(
    lull: World, tmp_path: Path
) -> None:
    classes = np.arange(40) % 4
    np.savez(tmp_path / "right.npz", x=ROWS, y=classes)
    np.savez(tmp_path / "poor.npz", x=ROWS, y=np.where(np.arange(40) < 10, 3 - classes, classes))
    made = {
        name: lull.put(f"{name}.tar", models.identity(name, np.ones((1, 4), np.float32))) for name in "abc"
    }
    await lull.pool("gated", hosts={"min": 2, "max": 2}, emptyAfter="60s")
    rollout = {"steps": [100], "analysis": {"minAccuracyPercent": 90}}
    service = await lull.service("gated", made["a"], pool="gated", rollout=rollout, replicas={"min": 1})
    first = await answered_by(service)
    await service.wait("Serving")

    async def change(name: str) -> None:
        await service.patch(model={"uri": made[name].uri, "digest": made[name].digest})
        await rolled_out(lull, service, name, "Validating", "lull evaluate")
        assert await answered_by(service) == first

    await change("b")
    said = await asyncio.to_thread(recorded, service, tmp_path / "poor.npz")
    poor = await rolled_out(lull, service, "b", "Rejected")
    assert f"{poor['candidate']} 75.0%" in said
    assert "its accuracy is 75%, and analysis.minAccuracyPercent is 90%" in poor["message"]
    assert await answered_by(service) == first

    await change("c")
    await asyncio.to_thread(recorded, service, tmp_path / "right.npz")
    good = await rolled_out(lull, service, "c", "Promoted")
    assert await answered_by(service) == good["candidate"]
