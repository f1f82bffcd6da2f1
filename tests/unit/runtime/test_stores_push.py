"""A push says what is wrong with where it should go."""

import socket
import threading

import pytest

from lull.api.reasons import Reason
from lull_runtime.artifact import ModelError
from lull_runtime.stores.credentials import Credentials
from lull_runtime.stores.push import target_of


@pytest.mark.parametrize(
    "uri", ["https://models.example/m", "oci://reg.example", "s3:///folder", "m.tar", "oci:"]
)
def test_only_registries_and_buckets_are_pushed_to(uri):
    with pytest.raises(ModelError) as caught:
        target_of(uri, Credentials({}))
    assert caught.value.reason is Reason.URI_NOT_ALLOWED


def test_a_registry_that_breaks_off_is_unreachable_whatever_it_answered_before(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        answering = threading.Thread(target=_answer_once, args=(server,), daemon=True)
        answering.start()
        tar = tmp_path / "m.tar"
        tar.write_bytes(b"tar")
        target = target_of(f"oci://127.0.0.1:{server.getsockname()[1]}/m", Credentials({}))
        with pytest.raises(ModelError) as caught:
            target.push(tar, b"{}", f"sha256:{'0' * 64}")
        answering.join(10)
    assert caught.value.reason is Reason.UNREACHABLE
    assert "401" not in caught.value.message


def _answer_once(server: socket.socket) -> None:
    """Ask who is there, and say no more to whoever comes then."""
    connection, _ = server.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 401 Who?\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    connection, _ = server.accept()
    connection.close()
