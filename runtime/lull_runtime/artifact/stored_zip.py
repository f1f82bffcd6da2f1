"""Reads zip files of which every reader sees the same members: PyTorch's has a reader of its own, in C++.

Such a file is members one after another, stored as they are, then their directory, then its end: nothing
before, between or after, so that two readers have nothing to differ about, and nothing can inflate.
"""

import os
import struct
import zipfile
from pathlib import Path
from typing import IO, Any

from lull.api.reasons import Reason
from lull_runtime.artifact.errors import ModelError

_MEMBERS, _DIRECTORY_BYTES = 100_000, 8 << 20
_BROKEN = (
    zipfile.BadZipFile,
    struct.error,
    EOFError,
    ValueError,
    OverflowError,
    OSError,
    NotImplementedError,
)
"""What the standard library raises of files that are no zip files, or bent ones."""
_LOCAL, _LOCAL_SIGNATURE = struct.Struct("<4s5H3I2H"), b"PK\x03\x04"
_ENTRY_BYTES = 46
_END, _END_SIGNATURE = struct.Struct("<4s4H2IH"), b"PK\x05\x06"
_LOCATOR, _LOCATOR_SIGNATURE = struct.Struct("<4sIQI"), b"PK\x06\x07"
_END64, _END64_SIGNATURE = struct.Struct("<4sQ2H2I4Q"), b"PK\x06\x06"
_DESCRIPTOR_SIGNATURE, _DESCRIPTOR_BYTES = b"PK\x07\x08", (16, 24)
_DESCRIBED, _UTF8 = 0x08, 0x800
_MOST32 = 0xFFFFFFFF


class StoredZip:
    """The members of a zip file, by name.

    Attributes:
        sizes_bytes: how long each member is.
    """

    def __init__(self, file: Path | IO[bytes]) -> None:
        """Read the directory.

        Raises:
            ModelError: NotAModel: it is no zip file, or not as plain as the module says.
        """
        try:
            if isinstance(file, Path):
                with file.open("rb") as opened:
                    _check_claims(opened)
            else:
                _check_claims(file)
            self._zip = zipfile.ZipFile(file)
            _check(self._zip)
        except _BROKEN as error:
            raise refused(f"it is no plain zip file ({error})") from error
        self.sizes_bytes = {info.filename: info.file_size for info in self._zip.infolist()}

    def read(self, name: str, most_bytes: int) -> bytes:
        """Return a member's content.

        Raises:
            ModelError: NotAModel: it is larger than that, or damaged.
        """
        if self.sizes_bytes[name] > most_bytes:
            raise refused(f"{name} is larger than {most_bytes} bytes")
        try:
            return self._zip.read(name)
        except _BROKEN as error:
            raise refused(f"{name} is damaged ({error})") from error

    def close(self) -> None:
        """Let go of the file."""
        self._zip.close()


def refused(why: str) -> ModelError:
    """The error of a network that is no `.pt2`."""
    return ModelError(
        Reason.NOT_A_MODEL, f"the network is no .pt2 of torch.export.save: {why}; publish it again"
    )


def _check_claims(file: IO[bytes]) -> None:
    """Whether the end claims no more of a directory than can be read whole, as the standard library does."""
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(max(0, size_bytes - _END64.size - _LOCATOR.size - _END.size))
    tail = file.read()
    signature, _, _, _, members, directory_bytes, _, comment = _END.unpack(tail[-_END.size :])
    if signature != _END_SIGNATURE or comment:
        raise ValueError("its end is not where it should be")
    if tail[: -_END.size][-_LOCATOR.size :].startswith(_LOCATOR_SIGNATURE):
        signature, *_, members, directory_bytes, _ = _END64.unpack(tail[: _END64.size])
        if signature != _END64_SIGNATURE:
            raise ValueError("its long end is not where it should be")
    if members > _MEMBERS or directory_bytes > _DIRECTORY_BYTES:
        raise ValueError(f"more than {_MEMBERS} members, or {_DIRECTORY_BYTES} bytes of their names")


def _check(archive: zipfile.ZipFile) -> None:
    """Whether members, directory and end lie one after another, and say the same of each other."""
    file, infos = archive.fp, archive.infolist()
    if file is None or len(infos) > _MEMBERS:
        raise ValueError(f"more than {_MEMBERS} members")
    if len({info.filename for info in infos}) != len(infos):
        raise ValueError("a member comes twice")
    at = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        at = _after(file, info, at)
    directory_bytes = sum(_ENTRY_BYTES + len(info.filename.encode()) + len(info.extra) for info in infos)
    _check_end(file, at, directory_bytes, len(infos))


def _after(file: IO[bytes], info: zipfile.ZipInfo, at: int) -> int:
    """Where the member that lies at an offset ends."""
    name = info.orig_filename
    if info.header_offset != at or name != info.filename or not name.isascii() or info.comment:
        raise ValueError(f"{name[:80]!r} lies where or is named as nobody would")
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & ~(_DESCRIBED | _UTF8):
        raise ValueError(f"{name[:80]!r} is compressed or encrypted")
    if info.extra and max(info.file_size, info.header_offset) < _MOST32:
        raise ValueError(f"{name[:80]!r} has attributes")
    file.seek(at)
    header: tuple[Any, ...] = _LOCAL.unpack(file.read(_LOCAL.size))
    signature, _, flags, method = header[:4]
    name_bytes, extra_bytes = int(header[-2]), int(header[-1])
    if signature != _LOCAL_SIGNATURE or (flags, method) != (info.flag_bits, zipfile.ZIP_STORED):
        raise ValueError(f"{name[:80]!r} is another one where it lies")
    if file.read(name_bytes) != name.encode() or info.compress_size != info.file_size:
        raise ValueError(f"{name[:80]!r} is another one where it lies")
    end = at + _LOCAL.size + name_bytes + extra_bytes + info.file_size
    return end + _descriptor_bytes(file, end) if flags & _DESCRIBED else end


def _descriptor_bytes(file: IO[bytes], at: int) -> int:
    """How long the figures behind a member are: PyTorch writes long ones, other writers short ones."""
    file.seek(at)
    found = file.read(max(_DESCRIPTOR_BYTES) + 2)
    if found[:4] == _DESCRIPTOR_SIGNATURE:
        for size_bytes in _DESCRIPTOR_BYTES:
            if found[size_bytes : size_bytes + 2] == b"PK":
                return size_bytes
    raise ValueError("figures are missing behind a member")


def _check_end(file: IO[bytes], at: int, directory_bytes: int, members: int) -> None:
    """Whether the directory lies at an offset and the file ends right behind it."""
    file.seek(at + directory_bytes)
    rest = file.read(_END64.size + _LOCATOR.size + _END.size + 1)
    end64 = b""
    if len(rest) == _END64.size + _LOCATOR.size + _END.size:
        end64, rest = rest[: -_END.size], rest[-_END.size :]
    signature, disk, first_disk, here, count, size_bytes, offset, comment = _END.unpack(rest)
    if signature != _END_SIGNATURE or disk or first_disk or here != count or comment:
        raise ValueError("its end is not where it should be")
    if end64:
        count, size_bytes, offset = _end64(end64, at + directory_bytes, (count, size_bytes, offset))
    if (count, size_bytes, offset) != (members, directory_bytes, at):
        raise ValueError("its directory is not what its end says")


def _end64(content: bytes, at: int, short: tuple[int, int, int]) -> tuple[int, int, int]:
    """What a long end says of the directory: what the short one says, as far as that can."""
    fields = _END64.unpack(content[: _END64.size])
    locator = _LOCATOR.unpack(content[_END64.size :])
    said: tuple[int, int, int] = fields[7:10]
    if fields[0] != _END64_SIGNATURE or locator != (_LOCATOR_SIGNATURE, 0, at, 1) or fields[6] != said[0]:
        raise ValueError("its long end is not where it should be")
    if any(
        one not in (other, most)
        for one, other, most in zip(short, said, (0xFFFF, _MOST32, _MOST32), strict=True)
    ):
        raise ValueError("its two ends say different things")
    return said
