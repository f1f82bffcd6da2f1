"""The smallest HTTP client: one connection, one request at a time; what is timed is the other side."""

import socket
import time
from types import TracebackType
from typing import Self


class Connection:
    """A kept-alive connection that sends the same request again and again.

    Args:
        address: where to connect.
        host: the `Host` header.
        path: what to POST `body` to.
    """

    def __init__(self, address: tuple[str, int], host: str, path: str, body: bytes) -> None:
        assert address[0].startswith("127."), "load is for loopback only"
        self._socket = socket.create_connection(address, timeout=10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        self._request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def ask(self) -> float:
        """Send the request, read the answer, and return how long that took, in seconds."""
        began = time.perf_counter()
        self._socket.sendall(self._request)
        answer = self._socket.recv(65536)
        while not _whole(answer):
            more = self._socket.recv(65536)
            if not more:
                raise ConnectionError(f"cut off after {answer[:200]!r}")
            answer += more
        took = time.perf_counter() - began
        if not answer.startswith(b"HTTP/1.1 200"):
            raise AssertionError(f"not 200: {answer[:300]!r}")
        return took


def _whole(answer: bytes) -> bool:
    head, found, body = answer.partition(b"\r\n\r\n")
    if not found:
        return False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line[15:])
        if line == b"transfer-encoding: chunked":
            return body.endswith(b"0\r\n\r\n")
    return True
