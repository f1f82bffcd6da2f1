"""Ways to bend bytes, tars and JSON: some blind, some that know where a format believes what it reads."""

import copy
import struct
import tarfile
from typing import Any

from hypothesis import strategies as st

_TEXTS = (
    "",
    "..",
    "../../mark",
    "/etc/passwd",
    "x" * 300,
    "a\0b",
    "é",
    "__class__",
    "os.system",
    "\n",
    "1e999",
)
_NUMBERS = (0, 1, -1, 255, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63, -(2**63), 10**30)
SCALARS = st.sampled_from(
    [*_TEXTS, *_NUMBERS, None, True, False, 0.5, 1e308, float("nan"), float("inf"), [], {}, [[]], {"": 0}]
)
_AT = st.integers(0, 2**32)
_PIECES = (
    b"\xff" * 8,
    b"\0" * 8,
    b"\xff\xff\xff\x7f",
    b"77777777777",
    b"\x80\0\0\0\xff\xff\xff\xff",
    struct.pack("<Q", 2**40),
    b"PK\x05\x06",
    b"PK\x01\x02",
    b"PK\x03\x04",
    b"cos\nsystem\n",
    b"\x93",
    b"R.",
)
"""What numbers, zip files and pickles believe."""
_BYTES = st.binary(max_size=8) | st.sampled_from(_PIECES)
BENDS = st.lists(
    st.tuples(st.sampled_from(("set", "insert", "drop", "copy", "cut")), _AT, _AT, _BYTES),
    min_size=1,
    max_size=6,
)


def bent(content: bytes, bends: list[tuple[str, int, int, bytes]]) -> bytes:
    """Change bytes at some places of a content."""
    out = bytearray(content)
    for kind, at, other, piece in bends:
        at, other = at % (len(out) + 1), other % (len(out) + 1)
        if kind == "set":
            out[at : at + len(piece)] = piece
        elif kind == "insert":
            out[at:at] = piece
        elif kind == "drop":
            del out[at : at + other % 600]
        elif kind == "copy":
            out[at:at] = out[other : other + 512]
        else:
            del out[max(at, len(out) // 2) :]
    return bytes(out)


_FIELDS = {"name": (0, 100), "mode": (100, 8), "size": (124, 12), "kind": (156, 1), "link": (157, 100)}
_FIELDS |= {"magic": (257, 8), "prefix": (345, 155)}
_VALUES = st.binary(max_size=12) | st.sampled_from(
    [text.encode() for text in _TEXTS]
    + [
        b"77777777777",
        b"-1",
        b"\x80\0\0\0\0\0\0\xff\xff\xff\xff\xff",
        b"\xff" * 12,
        b"x",
        b"g",
        b"L",
        b"K",
        b"S",
        b"2",
    ]
)
HEADERS = st.lists(st.tuples(_AT, st.sampled_from([*sorted(_FIELDS), "chain"]), _VALUES), max_size=4)


def _link(kind: bytes) -> bytes:
    """A header that speaks of the one behind it."""
    header = tarfile.TarInfo("a")
    header.type, header.size = kind, 10
    return header.tobuf(tarfile.USTAR_FORMAT) + b"10 path=a\n".ljust(512, b"\0")


def bent_tar(tar: bytes, headers: list[tuple[int, str, bytes]]) -> bytes:
    """Change fields of headers, each with a checksum that fits, or put a chain of headers before one."""
    out = bytearray(tar)
    starts = [at for at in range(0, len(out) - 511, 512) if out[at + 257 : at + 262] == b"ustar"]
    for number, field, value in headers:
        if not starts:
            break
        at = starts[number % len(starts)]
        if field == "chain":
            out[at:at] = _link(value[:1] or b"x") * (number % 2000)
            break
        offset, size = _FIELDS[field]
        out[at + offset : at + offset + size] = value[:size].ljust(size, b"\0")
        out[at + 148 : at + 156] = b" " * 8
        out[at + 148 : at + 156] = b"%06o\0 " % sum(out[at : at + 512])
    return bytes(out)


EDITS = st.lists(
    st.tuples(st.sampled_from(("set", "drop", "repeat", "swap", "rename")), _AT, _AT, SCALARS),
    min_size=1,
    max_size=5,
)


def bent_json(tree: Any, edits: list[tuple[str, int, int, Any]]) -> Any:
    """Change values of JSON, wherever they are."""
    tree = copy.deepcopy(tree)
    for kind, at, other, value in edits:
        places = list(_places(tree))
        if not places:
            return value
        holder, key = places[at % len(places)]
        if kind == "set":
            holder[key] = copy.deepcopy(value)
        elif kind == "drop":
            del holder[key]
        elif kind == "swap":
            source, name = places[other % len(places)]
            holder[key] = copy.deepcopy(source[name])
        elif isinstance(holder, list):
            holder.extend(copy.deepcopy(holder[key]) for _ in range(other % 80))
        else:
            holder[str(value)] = copy.deepcopy(holder[key])
    return tree


def _places(tree: Any) -> Any:
    """Each value's container and key."""
    todo = [tree]
    while todo:
        holder = todo.pop()
        if isinstance(holder, dict | list):
            for key in list(holder) if isinstance(holder, dict) else range(len(holder)):
                yield holder, key
                todo.append(holder[key])
