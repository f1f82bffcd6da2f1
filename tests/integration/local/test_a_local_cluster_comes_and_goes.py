"""`lull local up | down | status` on real control planes."""

import json
import os
import signal
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lull.local import processes
from lull.local.address import API_SERVER_PORT
from lull.local.cluster import Cluster, Nodes
from lull.local.commands import app
from lull.local.errors import LocalClusterError


def pids(cluster):
    return {record.pid for record in processes.strays(cluster.folder)}


def listening(pid):
    """The addresses on which a process listens for TCP, as the kernel writes them (hexadecimal)."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(os.readlink(entry))
        except OSError:
            continue
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                found.append(fields[1].split(":")[0])
    return found


def test_what_up_has_started_is_ready_when_it_returns_and_status_says_so(home):
    fresh = Cluster("fresh", home=home)
    try:
        fresh.up(Nodes(cpu=1))
        status = fresh.status()
        assert status["ready"]
        assert status["nodes"] == [{"name": "cpu-0", "ready": True, "simulated_gpus": 0}]
    finally:
        fresh.down()


def test_up_is_idempotent(cluster):
    before = pids(cluster)
    cluster.up()
    assert pids(cluster) == before


def test_up_starts_again_what_is_missing(cluster):
    record = processes.Record.load(cluster.folder / "run" / "kube-scheduler.json")
    record.signal_group(signal.SIGKILL)
    assert processes.wait_ended([record], 10)
    assert not cluster.status()["ready"]
    cluster.up()
    assert cluster.status()["ready"]


def test_everything_listens_on_loopback_only(cluster):
    # The kernel writes 127.x.y.z in the order of the machine: on little-endian ones it ends in 7F.
    addresses = [address for pid in pids(cluster) for address in listening(pid)]
    assert len(addresses) >= 4
    assert all(address.endswith("7F") and len(address) == 8 for address in addresses)


def test_two_clusters_side_by_side_do_not_see_each_other(home, cluster):
    other = Cluster("other", home=home)
    try:
        other.up(Nodes(cpu=0))
        assert other.address != cluster.address
        other.kubectl("create", "namespace", "only-here")
        with pytest.raises(LocalClusterError, match="NotFound"):
            cluster.kubectl("get", "namespace", "only-here")
        foreign = [
            "--kubeconfig",
            str(cluster.kubeconfig),
            "--server",
            f"https://{other.address}:{API_SERVER_PORT}",
        ]
        with pytest.raises(LocalClusterError):
            other.kubectl(*foreign, "get", "nodes")
    finally:
        other.down()
    assert cluster.status()["ready"]


def test_down_leaves_no_process_no_port_and_no_folder(home, cluster, container, eventually):
    gone = Cluster("gone", home=home)
    # A program that leaves a child in a session of its own behind: the hardest kind to find.
    script = (
        "import subprocess,time; subprocess.Popen(['sleep','600'], start_new_session=True); time.sleep(600)"
    )
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "leaves"}}
    pod["spec"] = {"containers": [container(script)]}
    try:
        gone.up(Nodes(cpu=1, images={"test/python": {"path": [os.path.dirname(os.sys.executable)]}}))
        gone.kubectl("create", "-f", "-", stdin=json.dumps(pod))
        gone.kubectl("wait", "--for=condition=Ready", "pod/leaves", "--timeout=30s")
        address = gone.address
        eventually(lambda: len(pids(gone)) >= 7)
    finally:
        gone.down()

    assert pids(gone) == set()
    assert not gone.folder.exists()
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        probe.connect((address, API_SERVER_PORT))
    gone.down()  # nothing to do is fine


def test_the_command_line_shows_the_cluster(home, cluster, monkeypatch):
    monkeypatch.setenv("LULL_HOME", str(home))
    shown = CliRunner().invoke(app, ["status", "--name", "nodes"])
    assert shown.exit_code == 0
    assert "gpu-0" in shown.stdout
    assert "2 simulated GPUs" in shown.stdout
    parsed = CliRunner().invoke(app, ["status", "--name", "nodes", "-o", "json"])
    assert json.loads(parsed.stdout)["ready"] is True
    path = CliRunner().invoke(app, ["kubeconfig", "--name", "nodes"])
    assert path.stdout.strip() == str(cluster.kubeconfig)


def test_the_command_line_says_that_there_is_no_cluster(home, monkeypatch):
    monkeypatch.setenv("LULL_HOME", str(home))
    shown = CliRunner().invoke(app, ["status", "--name", "never"])
    assert shown.exit_code == 1
    assert "lull local up" in shown.stdout


def test_a_folder_too_long_for_unix_sockets_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(LocalClusterError, match="LULL_HOME"):
        Cluster("x", home=tmp_path / ("long" * 20))


def test_up_brings_everything_back_after_a_crash_of_the_machine(home, cluster):
    crashed = Cluster("crashed", home=home)
    try:
        crashed.up(Nodes(cpu=0))
        crashed.kubectl("create", "namespace", "kept")
        records = list(processes.strays(crashed.folder))
        for record in records:
            record.signal_group(signal.SIGKILL)
        assert processes.wait_ended(records, 10)
        crashed.up()
        assert "kept" in crashed.kubectl("get", "namespaces")
    finally:
        crashed.down()
