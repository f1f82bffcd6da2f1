"""Several agents on one folder of a node: one fetches, all use it, and nobody believes a stranger's file."""

import asyncio
import fcntl
import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from crafted import artifact_tar, signing_key
from lull.api.host import StagedArtifact
from lull.api.reasons import Reason
from lull_runtime.agent import shelf as shelf_module
from lull_runtime.agent import staging as staging_module
from lull_runtime.agent import store as store_module
from lull_runtime.agent.fetch import Sources
from lull_runtime.agent.rules import Rules
from lull_runtime.agent.shelf import Lock, Shelf, lodge
from lull_runtime.agent.staging import Stager
from lull_runtime.agent.store import Store
from lull_runtime.artifact import ModelError
from lull_runtime.artifact.pack import pack_repository
from lull_runtime.artifact.tar import digest_of
from lull_runtime.artifact.trust import Signer

CONFIG = 'backend: "onnxruntime" input [ { name: "x" } ] output [ { name: "y" } ]'
SIZE_BYTES = 1 << 16
DEADLINE_SECONDS = 20


class Node:
    """A folder of room for so many models and one on its way, and the stores of its hosts."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, room: float = 3.5) -> None:
        self.folder = folder
        self.files = folder / "files"
        self.files.mkdir()
        self.room = room
        self.deadline_seconds: float = DEADLINE_SECONDS
        self.fetched: list[str] = []
        self.lives: dict[str, int] = {}
        fetch = store_module.fetch

        async def counted(uri: str, *rest: object) -> str:
            self.fetched.append(uri.rpartition("/")[2])
            return await fetch(uri, *rest)

        monkeypatch.setattr(store_module, "fetch", counted)

    def store(self, host: str, used: list[str] | None = None) -> Store:
        own, self.lives[host] = lodge(self.folder / "node" / "hosts", host)
        return Store(
            self.folder / "node",
            own,
            Sources(self.files, deadline_seconds=self.deadline_seconds),
            Rules(("file:///",)),
            most_bytes=int(self.room * SIZE_BYTES),
            in_use=lambda: used or (),
        )

    def publish(self, name: str) -> str:
        source = self.folder / name
        (source / "1").mkdir(parents=True)
        (source / "config.pbtxt").write_text(CONFIG)
        (source / "1" / "model.onnx").write_bytes(name.encode() * SIZE_BYTES)
        return pack_repository(self.files / name, source)

    def home(self, digest: str) -> Path:
        return self.folder / "node" / "sha256" / digest.removeprefix("sha256:")


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(tmp_path, monkeypatch)


def size_bytes(path: Path) -> int:
    return path.stat().st_size


async def get(store: Store, name: str, digest: str) -> None:
    await store.get(f"file:///{name}", digest, ())


# ── One fetches ──


async def test_hosts_that_want_the_same_at_once_fetch_it_once(node: Node):
    digest, stores = node.publish("a"), [node.store(f"h{n}") for n in range(3)]
    await asyncio.gather(*(get(store, "a", digest) for store in stores))
    assert node.fetched == ["a"]
    roots = {store.open(digest, "Auto", "m", ()).root for store in stores}
    assert roots == {node.home(digest) / "model"}
    assert list((node.folder / "node" / "lock").iterdir()) == []


async def test_a_fetch_whose_agent_died_is_taken_up_by_its_neighbour(node: Node, monkeypatch):
    digest = node.publish("a")
    store, heir = node.store("h1"), node.store("h2")
    part = node.folder / "node" / "part" / digest.removeprefix("sha256:")
    part.write_bytes((node.files / "a").read_bytes()[:1000])
    offsets, fetch = [], store_module.fetch

    async def watched(uri: str, digest: str, out: Path, *rest: object) -> str:
        offsets.append(size_bytes(out))
        return await fetch(uri, digest, out, *rest)

    monkeypatch.setattr(store_module, "fetch", watched)
    await get(heir, "a", digest)
    assert (offsets, part.exists(), store.has(digest)) == ([1000], False, True)


async def test_who_waits_too_long_for_a_neighbour_says_so(node: Node):
    node.deadline_seconds = 0.05
    digest, store = node.publish("a"), node.store("h1")
    lock = Lock.take(node.folder / "node" / "lock" / digest.removeprefix("sha256:"))
    assert lock is not None
    with pytest.raises(ModelError, match="another agent of this node") as caught:
        await get(store, "a", digest)
    assert caught.value.reason is Reason.UNREACHABLE
    lock.release()
    await get(node.store("h2"), "a", digest)


def test_a_lock_s_file_ends_with_it_and_who_waited_locks_the_next_one(tmp_path: Path):
    first = Lock.take(tmp_path / "lock")
    assert first is not None
    assert Lock.take(tmp_path / "lock") is None
    first.release()
    assert not (tmp_path / "lock").exists()
    second = Lock.take(tmp_path / "lock")
    assert second is not None
    second.release()


def test_a_lock_whose_file_went_while_it_was_taken_is_none(tmp_path: Path, monkeypatch):
    flock = fcntl.flock

    def released(descriptor: int, how: int) -> None:
        (tmp_path / "lock").unlink()
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", released)
    assert Lock.take(tmp_path / "lock") is None, "whoever comes next would lock another file"


# ── Who leaves ──


async def test_what_a_neighbour_uses_stays_and_what_nobody_uses_leaves_the_oldest_first(node: Node):
    node.room = 4.5
    digests = {name: node.publish(name) for name in "abcd"}
    used = [digests["a"]]
    neighbour, store = node.store("h1", used), node.store("h2")
    await get(neighbour, "a", digests["a"])
    for name, used_at in (("b", 200), ("c", 100)):
        await get(store, name, digests[name])
        store.let_go()
        os.utime(node.home(digests[name]), (used_at, used_at))
    os.utime(node.home(digests["a"]), (1, 1))
    await get(store, "d", digests["d"])
    assert [name for name in "abcd" if store.has(digests[name])] == ["a", "b", "d"]
    used.clear()
    neighbour.let_go()
    await get(store, "c", digests["c"])
    assert [name for name in "abcd" if store.has(digests[name])] == ["b", "c", "d"]


async def test_what_a_neighbour_begins_to_use_while_it_is_taken_out_stays(node: Node):
    digest = node.publish("a")
    store, neighbour = node.store("h1"), node.store("h2")
    await get(neighbour, "a", digest)
    assert store._shelf.evict(digest) is None
    assert neighbour.is_ready(digest, ())
    neighbour.let_go()
    aside = store._shelf.evict(digest)
    assert aside is not None
    assert not neighbour.is_ready(digest, ())


async def test_what_came_anew_is_held_anew(node: Node):
    digest = node.publish("a")
    store, neighbour = node.store("h1"), node.store("h2")
    await get(store, "a", digest)
    shutil.rmtree(node.home(digest))
    await get(neighbour, "a", digest)
    neighbour.let_go()
    assert store.is_ready(digest, ())
    assert os.stat(node.home(digest) / "whole.json").st_nlink == 2


async def test_what_comes_to_a_neighbour_takes_its_room_from_the_beginning(node: Node, monkeypatch):
    coming, go_on, fetch = asyncio.Event(), asyncio.Event(), store_module.fetch

    async def slow(uri: str, *rest) -> str:
        if uri.endswith("/a"):
            await rest[-1](SIZE_BYTES, SIZE_BYTES)
            coming.set()
            await go_on.wait()
        return await fetch(uri, *rest)

    monkeypatch.setattr(store_module, "fetch", slow)
    digests = [node.publish(name) for name in "ab"]
    first = asyncio.ensure_future(get(node.store("h1"), "a", digests[0]))
    await coming.wait()
    with pytest.raises(ModelError) as caught:
        await get(node.store("h2"), "b", digests[1])
    assert caught.value.reason is Reason.DISK_FULL
    go_on.set()
    await first


async def test_room_is_kept_for_what_a_neighbour_fetches(node: Node):
    digest, store = node.publish("a"), node.store("h1")
    lock = Lock.take(node.folder / "node" / "lock" / ("0" * 64))
    assert lock is not None
    lock.reserve(2 * SIZE_BYTES)
    with pytest.raises(ModelError) as caught:
        await get(store, "a", digest)
    assert caught.value.reason is Reason.DISK_FULL
    lock.release()
    await get(store, "a", digest)


async def test_what_could_never_fit_says_so_whoever_has_the_room_now(node: Node):
    node.room = 1.5
    with pytest.raises(ModelError) as caught:
        await get(node.store("h1"), "a", node.publish("a"))
    assert caught.value.reason is Reason.TOO_LARGE, "else a rollout would wait for ever"


async def test_what_was_evicted_by_a_neighbour_is_not_ready_any_more_but_fetched_anew(node: Node):
    digest = node.publish("a")
    store, neighbour = node.store("h1"), node.store("h2")
    await get(store, "a", digest)
    store.let_go()
    for name in "bc":
        await get(neighbour, name, node.publish(name))
        neighbour.let_go()
    assert not store.is_ready(digest, ())
    await get(store, "a", digest)
    assert store.is_ready(digest, ())


async def test_a_full_disk_removes_the_part_and_harms_no_neighbour(node: Node, monkeypatch):
    digest, other = node.publish("a"), node.publish("b")
    store, neighbour = node.store("h1"), node.store("h2")
    await get(neighbour, "b", other)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module, "_unpack", full)
    with pytest.raises(ModelError) as caught:
        await get(store, "a", digest)
    assert caught.value.reason is Reason.DISK_FULL
    assert list((node.folder / "node" / "part").iterdir()) == []
    assert neighbour.is_ready(other, ())
    assert neighbour.open(other, "Auto", "m", ()).root.is_dir()


async def test_a_disk_too_full_for_a_lock_is_tried_again(node: Node, monkeypatch):
    digest, store = node.publish("a"), node.store("h1")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Lock, "take", full)
        with pytest.raises(ModelError) as caught:
            await get(store, "a", digest)
    assert caught.value.reason is Reason.DISK_FULL, "what loads fail of for good rejects a rollout"
    await get(store, "a", digest)


# ── What is believed ──


def _link(home: Path) -> None:
    network = home / "model" / "1" / "model.onnx"
    target = home.parent.parent / "elsewhere"
    shutil.copy2(network, target)
    network.unlink()
    network.symlink_to(target)


def _home_elsewhere(home: Path) -> None:
    home.symlink_to(home.rename(home.parent.parent / "elsewhere"))


@pytest.mark.parametrize(
    "meddle",
    [
        lambda home: (home / "whole.json").unlink(),
        lambda home: (home / "whole.json").write_text("[]"),
        lambda home: (home / "model" / "1" / "more.py").write_text("import os"),
        lambda home: os.truncate(home / "model" / "1" / "model.onnx", 10),
        lambda home: os.utime(home / "model" / "1" / "model.onnx", (5, 5)),
        lambda home: (home / "model" / "config.pbtxt").unlink(),
        _link,
        _home_elsewhere,
    ],
    ids=[
        "unfinished",
        "no note",
        "more",
        "cut off",
        "altered",
        "less",
        "link",
        "elsewhere",
    ],
)
async def test_what_is_not_as_it_came_is_fetched_anew_by_who_did_not_bring_it(node: Node, meddle):
    digest = node.publish("a")
    await get(node.store("h1"), "a", digest)
    meddle(node.home(digest))
    store = node.store("h2")
    await get(store, "a", digest)
    assert node.fetched == ["a", "a"]
    root = store.open(digest, "Auto", "m", ()).root
    assert (root / "1" / "model.onnx").read_bytes() == b"a" * SIZE_BYTES
    assert not (root / "1" / "more.py").exists()
    assert not node.home(digest).is_symlink()


async def test_nobody_waits_for_the_disk_and_what_it_may_have_lost_with_the_node_is_not_believed(
    node: Node, monkeypatch
):
    digests = {name: node.publish(name) for name in "ab"}
    store, flushed, fsync = node.store("h1"), [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (flushed.append(1), fsync(descriptor)))
    await get(store, "a", digests["a"])
    assert flushed == []
    await store.flush()
    assert len(flushed) == 3, "two files and the note"
    await get(store, "b", digests["b"])
    await get(node.store("h2"), "b", digests["b"])
    assert node.fetched == ["a", "b"]
    (node.folder / "boot").write_text("another")
    monkeypatch.setattr(shelf_module, "_BOOT", node.folder / "boot")
    for name in "ab":
        await get(node.store("h3"), name, digests[name])
    assert node.fetched == ["a", "b", "b"]


async def test_what_left_before_it_was_flushed_is_let_be(node: Node):
    digest, store = node.publish("a"), node.store("h1")
    await get(store, "a", digest)
    store.let_go()
    store._shelf.evict(digest)
    await store.flush()
    store._shelf.flush(digest)
    assert not node.home(digest).exists()


async def test_another_model_in_a_model_s_place_is_not_served(node: Node):
    first, second = node.publish("a"), node.publish("b")
    store = node.store("h1")
    await get(store, "b", second)
    node.home(second).rename(node.home(first))
    await get(store, "a", first)
    root = store.open(first, "Auto", "m", ()).root
    assert (root / "1" / "model.onnx").read_bytes() == b"a" * SIZE_BYTES


async def test_a_neighbour_that_never_decides_who_leaves_is_named(node: Node, monkeypatch):
    monkeypatch.setattr(store_module, "_DECIDING_SECONDS", 0.05)
    digest, store = node.publish("a"), node.store("h1")
    lock = Lock.take(node.folder / "node" / "lock" / "room")
    assert lock is not None
    with pytest.raises(ModelError, match="who makes room") as caught:
        await get(store, "a", digest)
    assert caught.value.reason is Reason.UNREACHABLE
    lock.release()
    await get(store, "a", digest)


async def test_a_cancel_waits_for_what_threads_do_under_a_lock(node: Node, monkeypatch):
    digest, store = node.publish("a"), node.store("h1")
    unpacking, go_on, unpack = threading.Event(), threading.Event(), store_module._unpack

    def slow(*arguments: object) -> None:
        unpacking.set()
        go_on.wait(DEADLINE_SECONDS)
        unpack(*arguments)

    monkeypatch.setattr(store_module, "_unpack", slow)
    task = asyncio.ensure_future(get(store, "a", digest))
    await asyncio.to_thread(unpacking.wait, DEADLINE_SECONDS)
    for _ in range(3):  # each wake meanwhile may say so once more
        task.cancel()
        await asyncio.sleep(0.01)
        assert Lock.take(node.folder / "node" / "lock" / digest.removeprefix("sha256:")) is None
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert store.has(digest), "what had come is not lost"
    for left in ("node/part", "node/lock", "node/hosts/h1/fresh"):
        assert list((node.folder / left).iterdir()) == []


async def test_a_foreign_folder_in_a_model_s_place_is_not_served(node: Node):
    digest, store = node.publish("a"), node.store("h1")
    (node.home(digest) / "model" / "1").mkdir(parents=True)
    (node.home(digest) / "model" / "config.pbtxt").write_text('backend: "python"')
    assert not store.has(digest)
    await get(store, "a", digest)
    assert 'backend: "onnxruntime"' in (node.home(digest) / "model" / "config.pbtxt").read_text()


async def test_a_link_in_the_place_of_a_part_is_not_written_through(node: Node):
    digest, store = node.publish("a"), node.store("h1")
    precious = node.folder / "precious"
    precious.write_text("mine")
    (node.folder / "node" / "part" / digest.removeprefix("sha256:")).symlink_to(precious)
    await get(store, "a", digest)
    assert precious.read_text() == "mine"


async def test_a_part_that_a_crash_garbled_is_not_believed(node: Node):
    digest, store = node.publish("a"), node.store("h1")
    part = node.folder / "node" / "part" / digest.removeprefix("sha256:")
    part.write_bytes(bytes(1000))
    await get(store, "a", digest)
    assert (node.home(digest) / "model" / "1" / "model.onnx").read_bytes() == b"a" * SIZE_BYTES


async def test_models_are_for_reading_only(node: Node):
    digest, store = node.publish("a"), node.store("h1")
    await get(store, "a", digest)
    assert {p.stat().st_mode & 0o222 for p in (node.home(digest) / "model").rglob("*") if p.is_file()} == {0}


async def test_a_signature_is_verified_once_a_node_for_each_set_of_signers(node: Node, monkeypatch):
    node.room = 1000.0
    (key, public), (_, other) = signing_key(node.folder, "ana"), signing_key(node.folder, "ben")
    artifact_tar(node.files / "signed", key=key)
    digest = digest_of(node.files / "signed")
    verified, verify = [], store_module.verify

    def counted(root: Path, signers: tuple[Signer, ...]) -> str:
        verified.append([signer.name for signer in signers])
        return verify(root, signers)

    monkeypatch.setattr(store_module, "verify", counted)
    ana, ben = Signer("ana", public), Signer("ben", other)
    for host in ("h1", "h2"):
        await node.store(host).get("file:///signed", digest, (ana,))
    assert verified == [["ana"]]
    with pytest.raises(ModelError) as caught:
        await node.store("h3").get("file:///signed", digest, (ben,))
    assert caught.value.reason is Reason.WRONGLY_SIGNED
    await node.store("h4").get("file:///signed", digest, (ana, ben))
    assert verified == [["ana"], ["ben"], ["ana", "ben"]]


# ── Hosts that come and go ──


async def test_a_dead_host_s_folder_is_removed_and_a_living_one_s_is_not(node: Node):
    hosts = node.folder / "node" / "hosts"
    dead, ours = lodge(hosts, "dead")
    lodge(hosts, "living")
    agentless, agent = lodge(hosts, "agentless")
    triton = os.open(agentless / "repository", os.O_RDONLY)
    fcntl.flock(triton, fcntl.LOCK_SH)
    os.close(ours)
    os.close(agent)
    (dead / "held").mkdir()
    node.store("new")
    assert {path.name for path in hosts.iterdir()} == {"living", "agentless", "new"}
    assert list((hosts / "new" / "fresh").iterdir()) == []
    os.close(triton)


async def test_what_a_host_used_that_died_meanwhile_leaves_when_room_is_needed(node: Node):
    node.room = 2.5
    digest, own = node.publish("a"), node.folder / "node" / "hosts" / "h1"
    store, dying = node.store("h2"), node.store("h1", [digest])
    await get(dying, "a", digest)
    with pytest.raises(ModelError):
        await get(store, "b", node.publish("b"))
    os.close(node.lives["h1"])
    await get(store, "b", digest_of(node.files / "b"))
    assert not own.exists()


def test_a_host_whose_folder_goes_while_it_moves_in_makes_another(tmp_path: Path, monkeypatch):
    flock, times = fcntl.flock, []

    def deserted(descriptor: int, how: int) -> None:
        if not times:
            (tmp_path / "h1").rename(tmp_path / "gone")
        times.append(how)
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", deserted)
    own, _ = lodge(tmp_path, "h1")
    assert (len(times), (own / "repository").is_dir()) == (2, True)


def test_a_link_in_the_hosts_folder_leads_nobody_to_remove_what_it_leads_to(tmp_path: Path):
    (tmp_path / "precious" / "repository").mkdir(parents=True)
    hosts = tmp_path / "hosts"
    own, _ = lodge(hosts, "h1")
    (own / "fresh").mkdir()
    (hosts / "evil").symlink_to(tmp_path / "precious")
    (hosts / "file").write_text("")
    Shelf(tmp_path / "node", own)
    assert (tmp_path / "precious" / "repository").is_dir()


# ── Staging ──


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def listed(name: str, digest: str) -> StagedArtifact:
    return StagedArtifact(uri=f"file:///{name}", digest=digest, service=f"demo/{name}")


class Staging:
    """A host's stager at work."""

    def __init__(self, node: Node, host: str = "h1") -> None:
        self.node, self.store, self.clock = node, node.store(host), Clock()
        self.changes = 0
        self.stager = Stager(self.store, self._changed, self.clock)
        self.task = asyncio.ensure_future(self.stager.run())

    def _changed(self) -> None:
        self.changes += 1

    async def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"staged is {self.stager.staged}"
            await asyncio.sleep(0.005)


@pytest.fixture
async def staging(node: Node, monkeypatch):
    monkeypatch.setattr(staging_module, "_LOOK_SECONDS", 1000.0)  # what is new is news
    staging = Staging(node)
    yield staging
    staging.task.cancel()
    await asyncio.gather(staging.task, return_exceptions=True)


async def test_what_is_listed_comes_in_order_and_is_told(node: Node, staging: Staging):
    digests = [node.publish(name) for name in "ab"]
    staging.stager.set_list([listed("b", digests[1]), listed("a", digests[0])])
    await staging.until(lambda: staging.stager.staged == [digests[1], digests[0]])
    assert node.fetched == ["b", "a"]
    await staging.until(lambda: all((node.home(digest) / "flushed").exists() for digest in digests))
    assert staging.changes
    assert staging.store.is_ready(digests[0], ()), "a wake opens it at once"


async def test_nothing_listed_leaves_for_another_listed_one_but_all_else_does(node: Node, staging: Staging):
    digests = {name: node.publish(name) for name in "abcx"}
    await get(staging.store, "x", digests["x"])
    staging.store.let_go()
    staging.stager.set_list([listed(name, digests[name]) for name in "abc"])
    await staging.until(lambda: len(staging.stager.staged) == 3 or digests["c"] in staging.stager._rests)
    assert staging.stager.staged == [digests["a"], digests["b"]]
    assert not staging.store.has(digests["x"])


async def test_hosts_of_two_pools_do_not_stage_each_other_s_away(node: Node, staging: Staging):
    digests = {name: node.publish(name) for name in "abc"}
    staging.stager.set_list([listed(name, digests[name]) for name in "ab"])
    await staging.until(lambda: len(staging.stager.staged) == 2)
    neighbour = node.store("h2")
    neighbour.list_only([digests["c"]])
    with pytest.raises(ModelError) as caught:
        await neighbour.stage("file:///c", digests["c"], ())
    assert caught.value.reason is Reason.DISK_FULL
    assert [staging.store.has(digests[name]) for name in "abc"] == [True, True, False]
    staging.stager.set_list([listed("b", digests["b"])])
    assert await neighbour.stage("file:///c", digests["c"], ())
    assert [staging.store.has(digests[name]) for name in "abc"] == [False, True, True]


async def test_an_agent_that_is_started_again_lists_nothing_before_it_is_told(node: Node):
    digest = node.publish("a")
    node.store("h1").list_only([digest])
    assert node.store("h2")._shelf.listed() == {digest}
    assert node.store("h1")._shelf.listed() == set()


def test_a_full_disk_ends_no_agent_that_is_told_another_list(node: Node, monkeypatch, caplog):
    store = node.store("h1")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shelf_module.Shelf, "fresh", full)
    store.list_only(["sha256:" + "0" * 64])
    assert "may stage it away" in caplog.text


async def test_for_what_is_needed_now_the_listed_leave_last(node: Node, staging: Staging):
    digests = {name: node.publish(name) for name in "axn"}
    staging.stager.set_list([listed("a", digests["a"])])
    await staging.until(lambda: staging.stager.staged)
    os.utime(node.home(digests["a"]), (1, 1))
    await get(staging.store, "x", digests["x"])
    staging.store.let_go()
    await get(staging.store, "n", digests["n"])
    assert [staging.store.has(digests[name]) for name in "axn"] == [True, False, True]


async def test_staging_makes_way_for_what_is_needed_now_and_goes_on_afterwards(
    node: Node, staging: Staging, monkeypatch
):
    digests = {name: node.publish(name) for name in "an"}
    coming, go_on, fetch = asyncio.Event(), asyncio.Event(), store_module.fetch

    async def slow(uri: str, *rest: object) -> str:
        if uri.endswith("/a") and not go_on.is_set():
            coming.set()
            await go_on.wait()
        return await fetch(uri, *rest)

    monkeypatch.setattr(store_module, "fetch", slow)
    staging.stager.set_list([listed("a", digests["a"])])
    async with asyncio.timeout(DEADLINE_SECONDS):
        await coming.wait()
        coming.clear()
        await get(staging.store, "n", digests["n"])
        await coming.wait()  # once nobody waits any more it begins again
        go_on.set()
    await staging.until(lambda: staging.stager.staged == [digests["a"]])


async def test_staging_begins_once_nobody_waits(node: Node, staging: Staging, monkeypatch):
    digests = {name: node.publish(name) for name in "an"}
    coming, go_on, fetch = asyncio.Event(), asyncio.Event(), store_module.fetch
    begun = []

    async def slow(uri: str, *rest: object) -> str:
        begun.append(uri[-1])
        coming.set()
        await go_on.wait()
        return await fetch(uri, *rest)

    monkeypatch.setattr(store_module, "fetch", slow)
    needed = asyncio.ensure_future(get(staging.store, "n", digests["n"]))
    await coming.wait()
    staging.stager.set_list([listed("a", digests["a"])])
    await staging.until(lambda: not staging.stager._news.is_set())
    for _ in range(100):
        await asyncio.sleep(0)
    assert begun == ["n"]
    go_on.set()
    await needed
    await staging.until(lambda: staging.stager.staged == [digests["a"]])


async def test_staging_does_not_begin_between_one_wake_and_the_next(node: Node, monkeypatch):
    digests, store = {name: node.publish(name) for name in "an"}, node.store("h1")
    coming, go_on, fetch = asyncio.Event(), asyncio.Event(), store_module.fetch

    async def slow(uri: str, *rest: object) -> str:
        if uri.endswith("/n"):
            coming.set()
            await go_on.wait()
        return await fetch(uri, *rest)

    monkeypatch.setattr(store_module, "fetch", slow)
    first = asyncio.ensure_future(get(store, "n", digests["n"]))
    await coming.wait()
    staging = asyncio.ensure_future(store.stage("file:///a", digests["a"], ()))
    await asyncio.sleep(0)
    store._calm.set()
    store._calm.clear()  # the next one came at once
    for _ in range(100):
        await asyncio.sleep(0)
    assert store._staging is None
    go_on.set()
    assert await staging
    await first


async def test_who_needs_what_is_just_being_staged_waits_for_that_and_keeps_it(
    node: Node, staging: Staging, monkeypatch
):
    digest = node.publish("a")
    coming, go_on, fetch = asyncio.Event(), asyncio.Event(), store_module.fetch

    begun = []

    async def slow(uri: str, *rest: object) -> str:
        begun.append(uri[-1])
        coming.set()
        await go_on.wait()
        return await fetch(uri, *rest)

    monkeypatch.setattr(store_module, "fetch", slow)
    staging.stager.set_list([listed("a", digest)])
    async with asyncio.timeout(DEADLINE_SECONDS):
        await coming.wait()
        needed = asyncio.ensure_future(get(staging.store, "a", digest))
        await asyncio.sleep(0)
        go_on.set()
        await needed
    assert begun == ["a"]
    assert os.stat(node.home(digest) / "whole.json").st_nlink == 2


async def test_what_cannot_be_had_is_let_alone_for_a_while_and_holds_up_nobody(node: Node, staging: Staging):
    digest = node.publish("a")
    absent = listed("absent", "sha256:" + "0" * 64)
    staging.stager.set_list([absent, listed("a", digest)])
    await staging.until(lambda: staging.stager.staged == [digest])
    staging.stager.set_list([absent])
    await staging.until(lambda: staging.stager.staged == [])
    assert node.fetched.count("absent") == 1
    staging.clock.now += 61
    staging.stager.set_list([absent, listed("a", digest)])
    await staging.until(lambda: node.fetched.count("absent") == 2)


async def test_what_the_pool_does_not_allow_is_not_fetched(node: Node, staging: Staging, caplog):
    digest = node.publish("a")
    evil = StagedArtifact(uri="http://169.254.169.254/a", digest="sha256:" + "0" * 64, service="demo/evil")
    staging.stager.set_list([evil, listed("a", digest)])
    await staging.until(lambda: staging.stager.staged == [digest])
    assert node.fetched == ["a"]
    assert "demo/evil is not staged" in caplog.text


def test_the_note_of_a_model_says_its_size(node: Node):
    digest = node.publish("a")
    asyncio.run(get(node.store("h1"), "a", digest))
    note = json.loads((node.home(digest) / "whole.json").read_text())
    assert note["size_bytes"] == sum(size_bytes for size_bytes, _ in note["files"].values()) > SIZE_BYTES
