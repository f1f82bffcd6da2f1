"""How Triton is started: only on the Pod's address, and its control only with the key."""

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lull_runtime.agent import shelf
from lull_runtime.agent.settings import control_key
from lull_runtime.triton import flags, lodge, wait_for_key, wait_until_unrouted

ENVIRONMENT = {"POD_IP": "127.1.2.3", "LULL_REPOSITORY": "/models"}


def test_every_server_listens_on_the_pods_address_alone():
    given = flags(ENVIRONMENT, "k", "")
    assert {f for f in given if "address=" in f} == {
        f"--{server}-address=127.1.2.3" for server in ("http", "grpc", "metrics")
    }


def test_control_asks_for_the_key_over_http_and_grpc():
    given = flags(ENVIRONMENT, "k", "")
    for flag in ("http-restricted-api", "grpc-restricted-protocol"):
        [value] = [f for f in given if f.startswith(f"--{flag}=")]
        assert value.endswith(":lull-control=k")
        assert "model-repository" in value
        assert "shared-memory" in value


def test_newer_flags_are_given_where_the_server_has_them():
    assert "--allow-client-shm=false" not in flags(ENVIRONMENT, "k", "--allow-sagemaker")
    assert "--allow-sagemaker=false" in flags(ENVIRONMENT, "k", "--allow-sagemaker")
    assert "--allow-client-shm=false" in flags(ENVIRONMENT, "k", "--allow-client-shm")


def test_configurations_are_completed_only_where_a_pool_asks_for_it():
    assert "--disable-auto-complete-config" in flags(ENVIRONMENT, "k", "")
    assert "--disable-auto-complete-config" not in flags(
        ENVIRONMENT | {"LULL_TRITON_COMPLETE": "true"}, "k", ""
    )


def test_triton_waits_for_the_key_of_its_agent(tmp_path: Path):
    threading.Timer(0.1, lambda: control_key(tmp_path)).start()
    assert wait_for_key(tmp_path / "key", 5) == control_key(tmp_path)


def test_triton_does_not_wait_for_ever(tmp_path: Path):
    with pytest.raises(SystemExit, match="is the agent running"):
        wait_for_key(tmp_path / "key", 0.1)


def test_the_key_outlives_the_agent_and_is_its_users_alone(tmp_path: Path):
    key = control_key(tmp_path)
    assert control_key(tmp_path) == key
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0


def test_triton_stays_until_its_agent_says_that_nothing_is_routed_to_it(tmp_path: Path):
    marker = tmp_path / "routed"
    marker.touch()
    waiting = threading.Thread(target=wait_until_unrouted, args=(marker, 30))
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    marker.unlink()
    waiting.join(5)
    assert not waiting.is_alive()


def test_triton_s_own_lock_keeps_neighbours_from_removing_its_models_while_its_agent_is_away(tmp_path: Path):
    own, agent = shelf.lodge(tmp_path, "h1")
    process = subprocess.Popen(
        [sys.executable, "-c", _BECOMES_ANOTHER, own / "repository"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"another program\n"
    os.close(agent)
    other, _ = shelf.lodge(tmp_path, "h2")
    neighbour = shelf.Shelf(tmp_path / "node", other)
    neighbour.clear_deserted()
    assert own.is_dir()
    process.communicate(timeout=10)
    neighbour.clear_deserted()
    assert not own.exists()


def test_triton_does_not_start_on_a_folder_that_was_removed(tmp_path: Path, monkeypatch):
    repository, flock = tmp_path / "repository", fcntl.flock
    repository.mkdir()

    def removed(descriptor: int, how: int) -> None:
        repository.rmdir()
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", removed)
    with pytest.raises(SystemExit, match="was removed"):
        lodge(repository)


_BECOMES_ANOTHER = """
import os, sys
from pathlib import Path
from lull_runtime.triton import lodge
lodge(Path(sys.argv[1]))
os.execv("/bin/sh", ["sh", "-c", "echo another program; read line"])
"""
