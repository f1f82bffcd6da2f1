"""Files and folders of mounted volumes: read by threads, since a volume may hang."""

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from lull.api.reasons import Reason
from lull_runtime.artifact.errors import ModelError
from lull_runtime.artifact.tar import tree, write_tar
from lull_runtime.artifact.uris import check_uri
from lull_runtime.stores.stream import Stream

_CHUNK_BYTES = 1 << 20
_READERS = ThreadPoolExecutor(2, "volume")
"""Threads of their own, since a volume that hangs keeps them beyond every deadline."""
_TAR_MEMBER_BYTES, _TAR_END_BYTES = 4096, 20480
"""What a tar adds to a file, at most, and to all of them."""


@dataclass(frozen=True)
class FileOrigin:
    """A tar in a volume, or a folder there that is made into one on the way.

    Attributes:
        uri: of `file:` or `pvc:`; its path is relative to `root`.
        digest: what the tar must hash to.
        root: the volume.
        base: URI of the root.
        allowed: prefixes that hold for where links lead, too.
    """

    uri: str
    digest: str
    root: Path
    base: str
    allowed: Sequence[str]

    async def open(self, offset: int) -> Stream:
        """Begin to read at an offset, a folder always from the start."""
        loop = asyncio.get_running_loop()
        try:
            path, size_bytes, is_folder = await loop.run_in_executor(_READERS, _locate, self)
        except OSError as error:
            raise _unreadable(self.uri, error.strerror) from error
        except (ValueError, RuntimeError) as error:  # a null byte, links in a circle
            raise _unreadable(self.uri, str(error)) from error
        if is_folder or offset > size_bytes:
            offset = 0
        closing = AsyncExitStack()
        chunks = await closing.enter_async_context(aclosing(_read(self.uri, path, offset)))
        return Stream(size_bytes, offset, self.digest, chunks, closing)


def _locate(origin: FileOrigin) -> tuple[Path, int, bool]:
    """Where a file or folder of the volume is, links followed; how long its tar is at most; if a folder."""
    root = origin.root.resolve()
    named = root / unquote(urlsplit(origin.uri).path).lstrip("/")
    path = named.resolve()
    if not path.is_relative_to(root):
        raise ModelError(Reason.URI_NOT_ALLOWED, f"{origin.uri} leads out of the pool's volume")
    if path != named:  # where a link leads must be allowed as well
        check_uri(origin.base + quote(path.relative_to(root).as_posix()), origin.allowed)
    if path.is_dir():
        sizes_bytes = (file.stat().st_size for file in tree(path).values())
        return path, sum(size + _TAR_MEMBER_BYTES for size in sizes_bytes) + _TAR_END_BYTES, True
    size_bytes = path.stat().st_size
    if not path.is_file():  # opening a pipe would wait for its other end
        raise ModelError(Reason.NOT_A_MODEL, f"{origin.uri} is neither a file nor a folder")
    return path, size_bytes, False


async def _read(uri: str, path: Path, offset: int) -> AsyncGenerator[bytes, None]:
    """Yield what a thread pours into a pipe: it ends by itself once nobody reads."""
    loop = asyncio.get_running_loop()
    read_end, write_end = os.pipe()
    reader = asyncio.StreamReader(_CHUNK_BYTES)
    pipe, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb")
    )
    pouring = loop.run_in_executor(_READERS, _pour, path, offset, write_end)
    pouring.add_done_callback(lambda done: done.cancelled() or done.exception())  # told below, if to anybody
    try:
        while chunk := await reader.read(_CHUNK_BYTES):
            yield chunk
        await pouring
    except OSError as error:
        raise _unreadable(uri, error.strerror) from error
    finally:
        pipe.close()


def _pour(path: Path, offset: int, write_end: int) -> None:
    with suppress(BrokenPipeError), os.fdopen(write_end, "wb", buffering=_CHUNK_BYTES) as pipe:
        if path.is_dir():
            write_tar(pipe, tree(path))
            return
        with path.open("rb") as file:
            file.seek(offset)
            shutil.copyfileobj(file, pipe, _CHUNK_BYTES)


def _unreadable(uri: str, why: str | None) -> ModelError:
    return ModelError(Reason.UNREACHABLE, f"{uri}: {why}: is the file in the pool's volume?")
