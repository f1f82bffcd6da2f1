"""The real tools on an object: kstatus, Argo CD's Lua and its classic comparison (`judge/main.go`).

The program is built once, in half a minute, into the cache of the toolchain.
"""

import hashlib
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitops.health import script
from lull.local import toolchain

Object = dict[str, Any]

SOURCE = Path(__file__).parent / "judge"
BUILD_TIMEOUT_SECONDS = 280
ANSWER_TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class Said:
    """What the tools say of one object.

    Attributes:
        kstatus: Current, InProgress, Failed or Terminating; `message` says why.
        health: what Argo CD shows, and why.
        drift: what Argo CD would change, by its classic comparison.
    """

    kstatus: str
    message: str
    health: tuple[str, str]
    drift: Object


def ask(item: Object, *, manifest: Object | None = None) -> Said:
    """Ask the tools about an object that was applied from `manifest`."""
    question = {
        "object": item,
        "script": script(item["kind"]),
        "manifest": manifest or {},
    }
    done = subprocess.run(
        [_program()],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        timeout=ANSWER_TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    health = (told["health"]["status"], told["health"]["message"])
    return Said(told["kstatus"], told["message"], health, told["drift"])


def _program() -> Path:
    sources = b"".join((SOURCE / name).read_bytes() for name in ("go.mod", "go.sum", "main.go"))
    target = toolchain.cache_folder() / f"gitops-{hashlib.sha256(sources).hexdigest()[:12]}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        new = target.with_suffix(f".{os.getpid()}")
        done = subprocess.run(
            [toolchain._go(toolchain.to_stderr), "build", "-trimpath", "-o", new, "."],
            cwd=SOURCE,
            env=toolchain._go_env(),
            capture_output=True,
            text=True,
            timeout=BUILD_TIMEOUT_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        new.rename(target)
    return target
