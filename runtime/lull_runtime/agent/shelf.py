"""What one node keeps of models, in a folder that the agents of its hosts share.

    sha256/DIGEST/model/…     a model, unpacked, for reading only
    sha256/DIGEST/whole.json  its files as they came, once their digest was verified: else it is not there
    sha256/DIGEST/flushed     all is on disk: else it is believed until the node starts again
    sha256/DIGEST/signed-…    it was found signed, by one of those signers whose hash this is
    part/DIGEST               as much of a tar as has come; whoever fetches next takes it up
    lock/DIGEST               somebody fetches or removes it: a flock, and the bytes that room is kept for
    hosts/HOST/held/DIGEST    that host uses it: a hard link to whole.json, whose count says so to all
    hosts/HOST/listed         what that host should keep ready: nobody stages anything else in its place
    hosts/HOST/fresh/…        what that host unpacks or removes; nobody looks for models there

All agents run as one user, and believe each other. What is no model of theirs (a link, a file that somebody
put or altered) is not whole; who can write a note too is not kept out, and no model's code can.
"""

import asyncio
import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lull_runtime.artifact.errors import ModelError
from lull_runtime.artifact.tar import tree

log = logging.getLogger(__name__)

_NOTE, _FLUSHED, _LISTED = "whole.json", "flushed", "listed"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
"""Another one each time that the node starts."""
_ROOM = "room"
"""The lock of whoever decides who leaves; all others are of one digest."""
_HEX = re.compile(r"^[0-9a-f]{64}$")
_POLL_SECONDS = 0.05
"""How often it is looked whether a neighbour is done; within an agent nobody polls."""


@dataclass(frozen=True)
class Home:
    """A whole model on the shelf.

    Attributes:
        digest: of its tar.
        size_bytes: of its files.
        held: whether a host uses it.
        used_seconds: when it was last opened (Unix time).
    """

    digest: str
    size_bytes: int
    held: bool
    used_seconds: float


class Lock:
    """A lock that ends with the process that holds it; its file ends with the lock."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def take(cls, path: Path) -> "Lock | None":
        """Take a lock; None where somebody has it."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Who had it before may have removed its file meanwhile: then others lock another one.
            if os.fstat(descriptor).st_ino == path.lstat().st_ino:
                os.ftruncate(descriptor, 0)
                return cls(path, descriptor)
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(descriptor)
        return None

    def reserve(self, size_bytes: int) -> None:
        """Have all others keep so much room free."""
        os.pwrite(self._descriptor, b"%020d" % size_bytes, 0)

    def release(self) -> None:
        """Let others have it."""
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


class Shelf:
    """The folder as one host's agent uses it.

    Args:
        folder: what the agents of a node share.
        own: this host's part of it; those of others lie beside it.
    """

    def __init__(self, folder: Path, own: Path) -> None:
        self._own = own
        self._homes, self._parts, self._locks = (_made(folder / n) for n in ("sha256", "part", "lock"))
        self._held, self._fresh = _made(own / "held"), _made(own / "fresh")
        for leftover in self._fresh.iterdir():
            shutil.rmtree(leftover)
        (own / _LISTED).unlink(missing_ok=True)  # nobody has told this agent yet
        self.clear_deserted()

    # ── One model ──

    def has(self, digest: str) -> bool:
        """Whether somebody brought a model here whole."""
        return (self._home(digest) / _NOTE).is_file()

    def model(self, digest: str) -> Path:
        """Where a model's files are."""
        return self._home(digest) / "model"

    def part(self, digest: str) -> Path:
        """Where what comes of its tar goes; never a link, which would be written through."""
        part = self._parts / _hex(digest)
        if part.is_symlink():
            part.unlink()
        return part

    def is_unchanged(self, digest: str) -> bool:
        """Whether a model's files are those that came with it, as far as their sizes and times tell."""
        home, model = self._home(digest), self.model(digest)
        try:
            links = home.is_symlink() or model.is_symlink()
            note = self._note(digest)
            written = (home / _FLUSHED).is_file() or note["boot"] == _BOOT.read_text()
            return written and not links and note["digest"] == digest and note["files"] == _files(model)
        except (OSError, ValueError, TypeError, KeyError, ModelError):
            return False

    def place(self, digest: str, fresh: Path) -> None:
        """Show to all a model that is verified and unpacked (`fresh/model`); its disk is not waited for."""
        files = _files(fresh / "model")
        for name in files:
            (fresh / "model" / name).chmod(0o444)
        size_bytes = sum(size_bytes for size_bytes, _ in files.values())
        note = {"digest": digest, "size_bytes": size_bytes, "files": files, "boot": _BOOT.read_text()}
        (fresh / _NOTE).write_text(json.dumps(note))
        fresh.rename(self._home(digest))

    def flush(self, digest: str) -> None:
        """Have a model that was placed outlive a crash of the node, if it is still here."""
        home = self._home(digest)
        try:
            for path in (*tree(home / "model").values(), home / _NOTE):
                _flush(path)
            (home / _FLUSHED).touch()
        except (OSError, ModelError) as error:
            log.warning("%s is fetched anew once this node starts again: %s", digest, error)

    def set_aside(self, digest: str) -> Path | None:
        """Take a model out, to be removed from where it is then; None where it is not here."""
        home = self._home(digest)
        if home.is_symlink() or home.is_file():
            home.unlink()  # none of ours
        if not home.exists():
            return None
        return home.rename(self.fresh())

    def fresh(self) -> Path:
        """A folder that nobody else writes to, not even a thread that is not waited for any more."""
        return Path(tempfile.mkdtemp(dir=self._fresh))

    def use(self, digest: str) -> None:
        """Note that it is used now."""
        os.utime(self._home(digest))

    def vouch(self, digest: str, keys: Sequence[str], name: str) -> None:
        """Note that it is signed by one of those with these keys."""
        (self._home(digest) / _signed(keys)).write_text(name)

    def voucher(self, digest: str, keys: Sequence[str]) -> str:
        """Return who of those with these keys signed it, as somebody found; empty where nobody has looked."""
        try:
            return (self._home(digest) / _signed(keys)).read_text()
        except OSError:
            return ""

    # ── Who uses it ──

    def hold(self, digest: str) -> bool:
        """Keep a model from leaving while this host uses it; False where it is not here."""
        note, link = self._home(digest) / _NOTE, self._held / _hex(digest)
        try:
            if link.exists() and not note.samefile(link):
                link.unlink()  # what it held left, and has come anew
            if not link.exists():
                link.hardlink_to(note)
            if note.samefile(link):  # else it left at this moment
                return True
        except OSError:
            pass
        link.unlink(missing_ok=True)
        return False

    def hold_only(self, digests: Collection[str]) -> None:
        """Hold what of these is here, and let all others leave."""
        kept = {_hex(digest) for digest in digests if self.hold(digest)}
        for link in self._held.iterdir():
            if link.name not in kept:
                link.unlink()

    def clear_deserted(self) -> None:
        """Remove the folders of hosts that are no more: while they live, agent and Triton lock them."""
        for folder in self._own.parent.iterdir():
            if folder == self._own:
                continue
            try:
                descriptor = os.open(folder / "repository", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            except OSError:
                continue  # it is just being made
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder.rename(self.fresh()))
            except OSError:
                pass  # its host lives, or another agent is at it
            finally:
                os.close(descriptor)

    def list_only(self, digests: Collection[str]) -> None:
        """Tell the neighbours what this host should keep ready."""
        try:
            listed = self.fresh() / _LISTED
            listed.write_text(json.dumps(sorted(digests)))
            listed.rename(self._own / _LISTED)
            listed.parent.rmdir()
        except OSError as error:
            log.warning("neighbours are not told what is staged here, and may stage it away: %s", error)

    # ── All of them ──

    def listed(self) -> set[str]:
        """Return what any host of this node should keep ready."""
        found = set[str]()
        for host in self._own.parent.iterdir():
            try:
                found.update(json.loads((host / _LISTED).read_text()))
            except (OSError, ValueError, TypeError):
                continue  # it has said nothing yet, or has just gone
        return found

    def homes(self) -> list[Home]:
        """Return what is whole here."""
        return [home for path in self._homes.iterdir() if (home := _home_at(path)) is not None]

    def idle_parts(self) -> dict[str, int]:
        """Return the sizes of what has come of models that nobody fetches now."""
        coming, found = self.coming(), dict[str, int]()
        for path in self._parts.iterdir():
            digest = f"sha256:{path.name}"
            if digest not in coming:
                found[digest] = path.lstat().st_size
        return found

    def coming(self) -> dict[str, int]:
        """Return for what models room is kept, and how much; by this agent too."""
        return {digest: size_bytes for digest, size_bytes in self._reserved() if size_bytes is not None}

    def evict(self, digest: str) -> Path | None:
        """Take out a model that no host uses, as `set_aside` does; None where it stays."""
        lock = Lock.take(self._locks / _hex(digest))
        if lock is None:
            return None
        try:
            aside = self.set_aside(digest)
            if aside is None or (aside / _NOTE).stat().st_nlink == 1:
                return aside
            aside.rename(self._home(digest))  # somebody began to use it at this moment
            return None
        finally:
            lock.release()

    @asynccontextmanager
    async def locked(self, digest: str, most_seconds: float) -> AsyncIterator[Lock]:
        """Have a model to oneself.

        Raises:
            TimeoutError: another agent has had it for too long.
        """
        async with asyncio.timeout(most_seconds):
            while (lock := Lock.take(self._locks / _hex(digest))) is None:  # noqa: ASYNC110  a process tells nobody
                await asyncio.sleep(_POLL_SECONDS)
        try:
            yield lock
        finally:
            lock.release()

    @contextmanager
    def deciding(self, most_seconds: float) -> Iterator[None]:
        """Be the only one who decides who leaves; for threads.

        Raises:
            TimeoutError: another agent has been at it for too long.
        """
        deadline = time.monotonic() + most_seconds
        while (lock := Lock.take(self._locks / _ROOM)) is None:
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(_POLL_SECONDS)
        try:
            yield
        finally:
            lock.release()

    def _reserved(self) -> Iterator[tuple[str, int | None]]:
        """Yield who is locked, with its bytes; what an agent that ended left is removed."""
        for path in [path for path in self._locks.iterdir() if _HEX.match(path.name)]:
            lock = Lock.take(path)
            if lock is not None:
                lock.release()
                continue
            try:
                yield f"sha256:{path.name}", int(path.read_text() or 0)
            except (OSError, ValueError):
                continue  # it has just ended

    def _note(self, digest: str) -> dict[str, object]:
        note: dict[str, object] = json.loads((self._home(digest) / _NOTE).read_text())
        return note

    def _home(self, digest: str) -> Path:
        return self._homes / _hex(digest)


def lodge(hosts: Path, name: str) -> tuple[Path, int]:
    """Move into a host's folder; return it, and what keeps it from being taken for a dead one's.

    Triton does the same with its repository, so that an agent that is started again finds all as it was.
    """
    own = hosts / name
    while True:
        _made(own / "repository")
        descriptor = os.open(own / "repository", os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        try:
            if os.fstat(descriptor).st_ino == (own / "repository").stat().st_ino:
                return own, descriptor
        except FileNotFoundError:
            pass  # somebody took it for deserted just before
        os.close(descriptor)


def _made(folder: Path) -> Path:
    """Make a folder. A link in its place goes: nothing is to be kept where it leads to."""
    if folder.is_symlink():
        folder.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _home_at(path: Path) -> Home | None:
    """Return what is whole at a path, where that is a model at all."""
    try:
        note = (path / _NOTE).lstat()
        size_bytes = int(json.loads((path / _NOTE).read_text())["size_bytes"])
        return Home(f"sha256:{path.name}", size_bytes, note.st_nlink > 1, path.stat().st_mtime)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _files(model: Path) -> dict[str, list[int]]:
    """Return size and time of each file of a model.

    Raises:
        ModelError: there is something else in it.
    """
    stats = {name: path.stat() for name, path in tree(model).items()}
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _signed(keys: Sequence[str]) -> str:
    return f"signed-{hashlib.sha256(json.dumps(sorted(keys)).encode()).hexdigest()}"


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")
