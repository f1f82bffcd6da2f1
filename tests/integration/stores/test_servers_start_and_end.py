"""The servers themselves: they say why they do not start, and leave nothing running."""

import pytest

from lull.local import processes, servers
from lull.local.errors import LocalClusterError


def test_a_server_that_does_not_start_says_why_and_is_gone(tmp_path):
    server = servers.registry(tmp_path)
    (tmp_path / "registry.yaml").write_text("version: nonsense\n")
    with pytest.raises(LocalClusterError, match=r"registry did not start(.|\n)*nonsense"):
        server.start()
    assert list(processes.strays(tmp_path)) == []


def test_a_server_that_is_ended_leaves_nothing_running(tmp_path):
    server = servers.s3(tmp_path, ["models"])
    server.stop()  # one that never ran
    server.start()
    assert len(list(processes.strays(tmp_path))) == 1
    server.stop()
    assert list(processes.strays(tmp_path)) == []
