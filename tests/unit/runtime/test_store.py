"""The store keeps to its bound, and to what is in use."""

import asyncio
import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from crafted import artifact_tar, signing_key
from lull.api.reasons import Reason
from lull_runtime.agent import store as store_module
from lull_runtime.agent.fetch import Sources
from lull_runtime.agent.main import Agent
from lull_runtime.agent.rules import NOTHING, Rules, rules_of
from lull_runtime.agent.store import Model, Store
from lull_runtime.artifact import ModelError
from lull_runtime.artifact.pack import pack_repository
from lull_runtime.artifact.tar import digest_of

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
            self.folder / "own",
            Sources(self.folder / "files"),
            Rules(("file:///",)),
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
        os.utime(
            self.folder / "artifacts" / "sha256" / digest.removeprefix("sha256:"), (ord(name), ord(name))
        )
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
    assert caught.value.reason is Reason.DISK_FULL
    assert all(kept.store.has(digest) for digest in kept.used)
    assert kept.bytes_on_disk() < 2.1 * SIZE_BYTES
    kept.used.pop()
    await kept.get("c")


async def test_an_agent_that_is_started_again_knows_what_is_there(kept: Kept):
    digest = await kept.get("a")
    await kept.get("b")
    (kept.folder / "own" / "fresh" / "x").mkdir()
    kept.store = kept.opened()
    assert kept.store.has(digest)
    await kept.get("c")
    assert not kept.store.has(digest)
    assert not (kept.folder / "own" / "fresh" / "x").exists()


async def test_what_has_come_of_a_fetch_that_broke_off_leaves_before_any_whole_model(kept: Kept):
    first = await kept.get("a")
    part = kept.folder / "artifacts" / "part" / ("0" * 64)
    part.write_bytes(bytes(SIZE_BYTES))
    await kept.get("b")
    assert (kept.store.has(first), part.exists()) == (True, False)


async def test_nothing_leaves_for_what_would_not_fit_in_the_end(kept: Kept, monkeypatch):
    first = await kept.get("a")
    part = kept.folder / "artifacts" / "part" / ("0" * 64)
    part.write_bytes(bytes(SIZE_BYTES))

    async def large(uri, digest, out, sources, reserve):
        await reserve(SIZE_BYTES, 2 * SIZE_BYTES)

    monkeypatch.setattr(store_module, "fetch", large)
    with pytest.raises(ModelError) as caught:
        await kept.get("z")
    assert caught.value.reason is Reason.TOO_LARGE
    assert (kept.store.has(first), part.exists()) == (True, True)


async def test_what_a_fetch_takes_up_again_is_nobody_s_room(kept: Kept, monkeypatch):
    coming, go_on, fetch = asyncio.Event(), asyncio.Event(), store_module.fetch
    taken_up = f"sha256:{'0' * 64}"
    part = kept.folder / "artifacts" / "part" / ("0" * 64)

    async def waiting(uri, digest, *rest):
        if digest != taken_up:
            return await fetch(uri, digest, *rest)
        coming.set()
        await go_on.wait()
        raise ModelError(Reason.UNREACHABLE, "seen")

    monkeypatch.setattr(store_module, "fetch", waiting)
    first = await kept.get("a")
    part.write_bytes(bytes(SIZE_BYTES))
    task = asyncio.ensure_future(kept.store.get("file:///z", taken_up, ()))
    await coming.wait()
    await kept.get("b")
    assert (kept.store.has(first), part.exists()) == (False, True)
    go_on.set()
    with pytest.raises(ModelError):
        await task


async def test_a_disk_that_fills_while_a_model_is_unpacked_says_so(kept: Kept, monkeypatch):
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_module, "_unpack", full)
    with pytest.raises(ModelError, match="disk is full") as caught:
        await kept.get("a")
    assert caught.value.reason is Reason.DISK_FULL
    assert kept.bytes_on_disk() == 0


async def test_what_is_here_does_not_wait_for_stores_that_are_slow(kept: Kept, monkeypatch):
    digest = await kept.get("a")
    kept.store = kept.opened()

    async def slow(*_: object) -> str:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(store_module, "fetch", slow)
    tasks = [
        asyncio.ensure_future(kept.store.get("file:///z", f"sha256:{n}" + "0" * 63, ())) for n in range(2)
    ]
    await asyncio.sleep(0)
    await asyncio.wait_for(kept.store.get("file:///a", digest, ()), 10)
    assert kept.store.is_ready(digest, ())
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


# ── Whom the pool trusts ──


class Trusting:
    """A store of a pool that asks for ana's signature in one place, and for none in another."""

    def __init__(self, folder: Path) -> None:
        self.files, self.artifacts = folder / "files", folder / "artifacts"
        (self.files / "open").mkdir(parents=True)
        (self.files / "signed").mkdir()
        self.key, public = signing_key(folder, "ana")
        self.other_key, _ = signing_key(folder, "ben")
        rules = rules_of(
            {
                "allow": {"uris": ["file:///"]},
                "trust": [
                    {"prefix": "file:///signed/", "signedBy": [{"name": "ana", "publicKey": public}]},
                    {"prefix": "file:///open/", "namespaces": ["demo"]},
                ],
            }
        )
        self.store = Store(
            self.artifacts,
            folder / "own",
            Sources(self.files),
            rules,
            most_bytes=1 << 30,
            in_use=tuple,
        )

    async def take(self, name: str, namespace: str = "demo") -> Model:
        """Take a model as the host does."""
        uri, digest = f"file:///{name}", digest_of(self.files / name)
        signers = self.store.check(uri, namespace)
        assert not self.store.is_ready(digest, signers)
        await self.store.get(uri, digest, signers)
        assert self.store.is_ready(digest, signers)
        return self.store.open(digest, "Auto", "m", signers)

    async def refused(self, name: str, namespace: str = "demo") -> ModelError:
        with pytest.raises(ModelError) as caught:
            await self.take(name, namespace)
        return caught.value


@pytest.fixture
def trusting(tmp_path: Path) -> Trusting:
    return Trusting(tmp_path)


async def test_only_what_its_signer_signed_is_opened_and_what_is_refused_is_not_fetched_again(
    trusting: Trusting, caplog
):
    artifact_tar(trusting.files / "signed" / "none")
    artifact_tar(trusting.files / "signed" / "ben", key=trusting.other_key)
    assert (await trusting.refused("signed/none")).reason is Reason.UNSIGNED
    refused_digest = digest_of(trusting.files / "signed" / "ben")
    signers = trusting.store.check("file:///signed/ben", "demo")
    refused = await trusting.refused("signed/ben")
    assert (refused.reason, "ana" in refused.message) == (Reason.WRONGLY_SIGNED, True)
    (trusting.files / "signed" / "ben").rename(trusting.files / "away")
    with pytest.raises(ModelError) as caught:
        await trusting.store.get("file:///signed/ben", refused_digest, signers)
    assert caught.value.reason is Reason.WRONGLY_SIGNED
    artifact_tar(trusting.files / "signed" / "ana", key=trusting.key)
    with caplog.at_level("INFO"):
        model = await trusting.take("signed/ana")
    assert f"{model.digest} is signed by ana" in caplog.text


async def test_what_is_here_for_who_asks_for_no_signature_is_not_here_for_who_does(trusting: Trusting):
    artifact_tar(trusting.files / "open" / "m")
    model = await trusting.take("open/m")
    (trusting.files / "signed" / "m").hardlink_to(trusting.files / "open" / "m")
    assert (await trusting.refused("signed/m")).reason is Reason.UNSIGNED
    assert trusting.store.is_ready(model.digest, ()), "it serves on where it may"


async def test_what_no_rule_of_trust_is_for_is_refused(trusting: Trusting):
    artifact_tar(trusting.files / "open" / "m")
    refused = await trusting.refused("open/m", namespace="other")
    assert (refused.reason, "spec.trust" in refused.message) == (Reason.URI_NOT_ALLOWED, True)
    assert not trusting.store._artifacts


async def test_a_signed_directory_without_golden_cases_is_not_enough_where_signatures_are_asked_for(
    trusting: Trusting,
):
    source = trusting.files / "m"
    (source / "1").mkdir(parents=True)
    (source / "config.pbtxt").write_text(CONFIG)
    (source / "1" / "model.onnx").write_bytes(b"network")
    pack_repository(trusting.files / "signed" / "m", source, trusting.key)
    assert (await trusting.refused("signed/m")).reason is Reason.NO_GOLDEN_CASES


@pytest.mark.parametrize(
    "rule",
    [
        {"signedBy": []},
        {"prefix": "https://models.example:99999/"},
        {"prefix": "oci://models.example//team/"},
        {"prefix": "oci://me@models.example/"},
    ],
)
def test_rules_of_trust_that_cannot_be_read_or_met_let_nothing_run(rule: dict[str, object]):
    with pytest.raises(ValueError):
        rules_of({"trust": [rule]})


def test_an_agent_lets_nothing_run_by_rules_that_it_does_not_understand_and_goes_on_by_those_of_a_lost_pool():
    agent = SimpleNamespace(_store=SimpleNamespace(rules=NOTHING))
    Agent.follow_rules(agent, {"spec": {"allow": {"uris": ["file:///"]}}})
    Agent.follow_rules(agent, None)
    assert agent._store.rules == Rules(("file:///",))
    Agent.follow_rules(agent, {"spec": {"allow": {"uris": ["file:///"]}, "trust": [{"signedBy": []}]}})
    assert agent._store.rules == NOTHING
