"""Tar files: written so that equal content gives equal bytes, read as if an enemy had made them.

Never compressed: models hardly compress, and what does not grow on reading cannot be a bomb.
"""

import hashlib
import io
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from lull.api.reasons import Reason
from lull_runtime.artifact.errors import ModelError

_CHUNK_BYTES = 1 << 20
_HEADER_BYTES = 1 << 16
"""The longest single read while headers are parsed; long names come as headers with a body."""


@dataclass(frozen=True)
class Bounds:
    """How much a tar file may hold."""

    files: int = 10_000
    total_bytes: int = 64 << 30
    name_length: int = 255


class Sink(Protocol):
    """What a tar is written to."""

    def write(self, data: bytes, /) -> object:
        """Take some bytes."""


def write_tar(out: Sink, members: Mapping[str, bytes | Path]) -> str:
    """Write files as a tar, in the order of their names, and return its digest (`sha256:…`).

    The bytes depend on names and contents alone: no times, owners or permissions.
    """
    hashing = _Hashing(out)
    with tarfile.open(fileobj=hashing, mode="w|", format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
        for name in sorted(members):
            _add(archive, name, members[name])
    return f"sha256:{hashing.sha256.hexdigest()}"


def tree(folder: Path) -> dict[str, Path]:
    """Return the files of a folder by their relative names, as `write_tar` takes them.

    Raises:
        ModelError: there is a link or a device in it.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ModelError(Reason.NOT_A_MODEL, f"{name} is a link or a device; a model is of plain files")
        if path.is_file():
            found[name] = path
    return found


def digest_of(path: Path) -> str:
    """Return the digest (`sha256:…`) of a file, or of the tar that a folder would be written as."""
    if path.is_dir():
        return write_tar(_Nowhere(), tree(path))
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def unpack(archive: Path, into: Path, bounds: Bounds) -> None:
    """Unpack a tar into an empty folder, as plain files.

    Raises:
        ModelError: it is no tar, exceeds the bounds, or holds anything but plain files beneath its root.
    """
    with archive.open("rb") as file:
        members = _members(file, bounds)
        for member in members:
            target = into / _safe_name(member.name, bounds)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.seek(member.offset_data)
            with target.open("xb") as out:
                _copy(file, out, member.size)


def _add(archive: tarfile.TarFile, name: str, content: bytes | Path) -> None:
    header = tarfile.TarInfo(name)
    header.mode = 0o644
    if isinstance(content, bytes):
        header.size = len(content)
        archive.addfile(header, io.BytesIO(content))
        return
    header.size = content.stat().st_size
    with content.open("rb") as file:
        archive.addfile(header, file)


def _members(file: IO[bytes], bounds: Bounds) -> list[tarfile.TarInfo]:
    """Return the plain files of a tar, after a look at all of it."""
    names: set[str] = set()
    files = []
    total_bytes = 0
    for count, member in enumerate(_headers(file)):
        if count >= bounds.files:
            raise _refused(f"it holds more than {bounds.files} files")
        if member.isdir():
            continue
        if not member.isreg() or member.issparse():
            raise _refused(f"{member.name!r} is a link, a device or a sparse file; pack plain files only")
        name = _safe_name(member.name, bounds)
        if member.size < 0:  # an extended header may say so
            raise _refused(f"{name!r} is of negative size")
        total_bytes += member.size
        if name in names:
            raise _refused(f"it holds {name!r} twice")
        if total_bytes > bounds.total_bytes:
            raise ModelError(Reason.TOO_LARGE, f"unpacked it is larger than {bounds.total_bytes} bytes")
        names.add(name)
        files.append(member)
    for name in names:
        if parents := names.intersection(map(str, PurePosixPath(name).parents)):
            raise _refused(f"it holds {min(parents)!r} as a file and as a folder")
    return files


def _headers(file: IO[bytes]) -> Iterable[tarfile.TarInfo]:
    try:
        with tarfile.open(fileobj=_Guarded(file), mode="r:") as archive:  # type: ignore[call-overload]
            yield from archive
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
        raise _refused(f"it is no tar file ({error}); compressed ones are not taken") from error


def _safe_name(name: str, bounds: Bounds) -> str:
    """The name as a relative path that stays beneath the root."""
    path = PurePosixPath(name)
    clean = path.as_posix()
    if (
        path.is_absolute()
        or ".." in path.parts
        or not path.parts
        or "\\" in name
        or not name.isprintable()
        or len(clean.encode()) > bounds.name_length
    ):
        raise _refused(
            f"{name[:80]!r} is not a name that it may hold: relative, without '..', at most 255 bytes long"
        )
    return clean


def _copy(source: IO[bytes], target: IO[bytes], size_bytes: int) -> None:
    left = size_bytes
    while left:
        chunk = source.read(min(left, _CHUNK_BYTES))
        if not chunk:
            raise _refused("it ends in the middle of a file")
        target.write(chunk)
        left -= len(chunk)


def _refused(why: str) -> ModelError:
    return ModelError(Reason.NOT_A_MODEL, f"the file is not a model's tar: {why}")


class _Guarded:
    """A file on which the tar parser cannot be made to read a huge header into memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _HEADER_BYTES:
            raise ValueError("one of its headers is too long")
        return self._file.read(size)

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)


class _Hashing:
    """Writes through to a file and hashes what passes."""

    def __init__(self, out: Sink) -> None:
        self._out = out
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self._out.write(data)
        return len(data)


class _Nowhere:
    """Takes what is written and keeps nothing."""

    def write(self, data: bytes, /) -> None:
        pass
