"""A store of models over HTTP that sends so many bytes a second, takes a download up, and counts."""

import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CHUNK_BYTES = 1 << 16


class SlowStore:
    """Serves the files of a folder; use it as a context.

    Attributes:
        bytes_per_second: of each download; may be changed while one runs.
        asked: the file and the first byte of each download so far.
    """

    def __init__(self, folder: Path, bytes_per_second: float) -> None:
        self.folder = folder
        self.bytes_per_second = bytes_per_second
        self.asked: list[tuple[str, int]] = []
        store = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                store._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> "SlowStore":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def uri(self, name: str) -> str:
        """Return where a file is."""
        return f"http://127.0.0.1:{self._server.server_port}/{name}"

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        name = request.path.removeprefix("/")
        begin = int((request.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        size_bytes = (self.folder / name).stat().st_size
        self.asked.append((name, begin))
        request.send_response(206 if begin else 200)
        request.send_header("Content-Length", str(size_bytes - begin))
        if begin:
            request.send_header("Content-Range", f"bytes {begin}-{size_bytes - 1}/{size_bytes}")
        request.end_headers()
        with (self.folder / name).open("rb") as file, suppress(OSError):  # who asked may go
            file.seek(begin)
            due = time.monotonic()
            while chunk := file.read(CHUNK_BYTES):
                request.wfile.write(chunk)
                due = max(due, time.monotonic() - 0.1) + len(chunk) / self.bytes_per_second
                time.sleep(max(0.0, due - time.monotonic()))
