"""The store keeps to its bound, and to what is in use."""

import os
from pathlib import Path

import pytest

from lull.api.reasons import Reason
from lull_runtime.agent.fetch import Sources
from lull_runtime.agent.store import Store
from lull_runtime.artifact import ModelError
from lull_runtime.artifact.pack import pack_repository

CONFIG = 'backend: "onnxruntime" input [ { name: "x" } ] output [ { name: "y" } ]'
SIZE_BYTES = 1 << 20


class Kept:
    """A store of room for two models, and one on its way: tar and unpacked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.used: list[str] = []
        (folder / "files").mkdir()
        self.store = self.opened()

    def opened(self) -> Store:
        return Store(
            self.folder / "artifacts",
            Sources(self.folder / "files", ["file:///"]),
            allow_code=False,
            most_bytes=int(3.5 * SIZE_BYTES),
            in_use=lambda: self.used,
        )

    async def get(self, name: str) -> str:
        source = self.folder / name
        (source / "1").mkdir(parents=True, exist_ok=True)
        (source / "config.pbtxt").write_text(CONFIG)
        (source / "1" / "model.onnx").write_bytes(name.encode() * SIZE_BYTES)
        digest = pack_repository(self.folder / "files" / name, source)
        await self.store.get(f"file:///{name}", digest, ())
        os.utime(self.folder / "artifacts" / digest.removeprefix("sha256:"), (ord(name), ord(name)))
        return digest

    def bytes_on_disk(self) -> int:
        return sum(p.stat().st_size for p in (self.folder / "artifacts").rglob("*") if p.is_file())


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


async def test_the_least_recently_used_leaves_before_room_is_taken(kept: Kept, monkeypatch):
    first, second = await kept.get("a"), await kept.get("b")
    third = await kept.get("c")
    assert [kept.store.has(digest) for digest in (first, second, third)] == [False, True, True]
    assert kept.bytes_on_disk() < 2.1 * SIZE_BYTES


async def test_what_is_in_use_stays_and_what_does_not_fit_beside_it_is_refused_untouched(kept: Kept):
    kept.used = [await kept.get("a"), await kept.get("b")]
    with pytest.raises(ModelError) as caught:
        await kept.get("c")
    assert caught.value.reason is Reason.TOO_LARGE
    assert all(kept.store.has(digest) for digest in kept.used)
    assert kept.bytes_on_disk() < 2.1 * SIZE_BYTES
    kept.used.pop()
    await kept.get("c")


async def test_an_agent_that_is_started_again_knows_what_is_there(kept: Kept):
    digest = await kept.get("a")
    await kept.get("b")
    (kept.folder / "artifacts" / ".scratch-x").mkdir()
    kept.store = kept.opened()
    assert kept.store.has(digest)
    await kept.get("c")
    assert not kept.store.has(digest)
    assert not (kept.folder / "artifacts" / ".scratch-x").exists()
