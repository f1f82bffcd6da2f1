"""Only what was started is ever ended."""

import os
import signal
import time
from dataclasses import replace

import pytest

from lull.local import processes
from lull.local.processes import Record


@pytest.fixture
def started(tmp_path):
    record = processes.start(
        tmp_path / "p.json", ["sleep", "60"], tmp_path / "log", environment=os.environ, mark=tmp_path
    )
    yield record
    processes.stop([record], 5)


def test_a_started_process_is_alive_recorded_and_in_a_session_of_its_own(started, tmp_path):
    assert started.alive()
    assert Record.load(tmp_path / "p.json") == started
    assert os.getsid(started.pid) == started.pid


def test_a_process_that_took_over_the_number_is_neither_alive_nor_ended(started):
    stale = replace(started, started=started.started - 1)
    assert not stale.alive()
    stale.signal_group(signal.SIGKILL)
    assert started.alive()


def test_a_record_of_another_boot_is_nobody(started):
    stale = replace(started, boot="another")
    assert not stale.alive()
    stale.signal_group(signal.SIGKILL)
    assert started.alive()


def test_stop_asks_first_and_kills_what_does_not_listen(tmp_path):
    script = 'trap "" TERM; touch deaf; while true; do sleep 0.1; done'
    record = processes.start(
        tmp_path / "p.json", ["sh", "-c", script], tmp_path / "log", environment=os.environ, mark=tmp_path
    )
    deadline = time.monotonic() + 10
    while not (tmp_path / "deaf").exists():
        assert time.monotonic() < deadline
    processes.stop([record], 0.5)
    assert not record.alive()


@pytest.mark.parametrize("leads_its_group", [True, False])
def test_strays_are_found_by_the_mark_that_they_inherited_and_ended(tmp_path, leads_its_group):
    script = f"import subprocess; subprocess.Popen(['sleep', '60'], start_new_session={leads_its_group})"
    record = processes.start(
        tmp_path / "p.json",
        ["python3", "-c", script],
        tmp_path / "log",
        environment=os.environ,
        mark=tmp_path,
    )
    assert processes.wait_ended([record], 10)
    (stray,) = processes.strays(tmp_path)
    processes.stop([stray], 5)
    assert not list(processes.strays(tmp_path))


def test_no_record_or_a_broken_one_is_none(tmp_path):
    assert Record.load(tmp_path / "none") is None
    (tmp_path / "broken").write_text("{")
    assert Record.load(tmp_path / "broken") is None
