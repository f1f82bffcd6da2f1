"""What a real store does wrong, or somebody does to it: a reason for each, and no byte asked for twice."""

import signal
from pathlib import Path

import pytest

from lull.api.reasons import Reason
from lull.local import processes
from lull_runtime.artifact import ModelError


async def refused(store, out: Path, **more) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await store.fetch(out, **more)
    return caught.value


async def test_a_store_that_crashes_in_mid_pull_and_comes_back_is_asked_for_the_rest(
    store, tmp_path, asked, in_mid_pull
):
    out = tmp_path / "out"
    in_mid_pull(store.restart)
    assert await store.fetch(out) == store.artifact.digest
    assert out.read_bytes() == store.artifact.tar.read_bytes()
    first, second = [(offset, status) for offset, status in asked if status in (200, 206)]
    assert first == (None, 200)
    assert second[1] == 206
    assert int(second[0].removeprefix("bytes=").removesuffix("-")) > 0


async def test_a_store_that_stays_down_is_unreachable_and_the_next_fetch_goes_on(
    store, tmp_path, asked, in_mid_pull
):
    out = tmp_path / "out"
    in_mid_pull(lambda: store.server.stop(grace_seconds=0))
    error = await refused(store, out)
    assert error.reason is Reason.UNREACHABLE
    had_bytes = out.stat().st_size
    assert 0 < had_bytes < store.artifact.size_bytes
    store.server.start()
    asked.clear()
    assert await store.fetch(out) == store.artifact.digest
    assert {offset for offset, _ in asked} == {f"bytes={had_bytes}-"}


async def test_a_store_that_is_slower_than_the_deadline_is_unreachable(store, tmp_path, in_mid_pull):
    out = tmp_path / "out"
    record = processes.Record.load(store.server.folder / f"{store.server.name}.json")
    in_mid_pull(lambda: record.signal_group(signal.SIGSTOP))
    try:
        error = await refused(store, out, deadline_seconds=2.0)
    finally:
        record.signal_group(signal.SIGCONT)
    assert error.reason is Reason.UNREACHABLE
    assert "after 2 s" in error.message
    assert await store.fetch(out) == store.artifact.digest


async def test_a_tar_that_was_changed_is_a_mismatch_and_nothing_is_left(store, tmp_path):
    with store.stored().open("r+b") as file:
        file.seek(1000)
        file.write(b"changed")
    assert (await refused(store, tmp_path / "out")).reason is Reason.DIGEST_MISMATCH
    assert not (tmp_path / "out").exists()


async def test_a_tar_that_was_cut_off_is_a_mismatch_and_nothing_is_left(store, tmp_path):
    with store.stored().open("r+b") as file:
        file.truncate(1 << 20)
    error = await refused(store, tmp_path / "out")
    assert error.reason is Reason.DIGEST_MISMATCH
    assert f"({1 << 20} bytes)" in error.message
    assert not (tmp_path / "out").exists()


async def test_a_tar_that_is_not_there_is_unreachable(store, tmp_path):
    store.stored().unlink()
    error = await refused(store, tmp_path / "out")
    assert error.reason is Reason.UNREACHABLE
    assert "404" in error.message


@pytest.mark.parametrize(
    "onwards",
    [
        "http://169.254.169.254/latest",
        "https://169.254.169.254/latest",
        "https://10.0.0.1/",
    ],
)
async def test_a_registry_that_sends_on_to_where_models_never_come_from_is_refused(
    registry, tmp_path, onwards
):
    with (registry.server.folder / "registry.yaml").open("a") as file:
        file.write(f"middleware: {{storage: [{{name: redirect, options: {{baseurl: '{onwards}'}}}}]}}\n")
    registry.restart()
    error = await refused(registry, tmp_path / "out")
    assert error.reason is Reason.URI_NOT_ALLOWED
    assert not (tmp_path / "out").exists()
