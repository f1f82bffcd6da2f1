"""What `lull demo` says when it cannot go on."""

import subprocess

import pytest
from typer.testing import CliRunner

from lull.cli import app, demo, stack
from lull.local.cluster import Cluster
from lull.local.errors import LocalClusterError


@pytest.mark.parametrize("error", [LocalClusterError("no port"), stack.NotInTimeError("no port")])
def test_what_goes_wrong_is_one_line_and_no_traceback(monkeypatch, home, error):
    def fail(_cluster):
        raise error

    monkeypatch.setenv("LULL_HOME", str(home))
    monkeypatch.setattr(stack, "up", fail)
    shown = CliRunner().invoke(app, ["demo"])
    assert shown.exit_code == 1
    assert shown.stderr == "Error: no port\n"


def test_a_publish_that_fails_is_told_with_its_command(monkeypatch, home):
    def fail(command, **_):
        raise subprocess.CalledProcessError(2, command)

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(LocalClusterError, match=r"lull.*publish.*exit status 2"):
        demo.publish_digits(Cluster("demo", home=home))


def test_an_error_from_the_gateway_is_told_with_where_to_look():
    image, digit = demo.held_out_digit()
    with pytest.raises(stack.NotInTimeError, match="kubectl describe"):
        demo.ask("127.0.0.1:1", image, digit)
