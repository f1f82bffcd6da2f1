"""Where a published model goes: a tar, a folder, a registry or an object store."""

from __future__ import annotations

import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

from lull_runtime.artifact.format import CARD
from lull_runtime.artifact.tar import Bounds, unpack
from lull_runtime.publish.errors import NotPublishableError


@dataclass(frozen=True)
class Destination:
    """Where a model goes.

    Attributes:
        tar: is written in any case.
        folder: where it is laid out as files; None where it is not.
        store: URI of the registry or bucket that gets it; None where none does.
        uri: where hosts will find the file or folder; None where that is its name beneath `file:///`.
    """

    tar: Path
    folder: Path | None = None
    store: str | None = None
    uri: str | None = None

    def deliver(self, digest: str) -> str:
        """Put the tar, of this digest, where it goes and return the URI for `spec.model.uri`.

        Raises:
            ModelError: the store refused it, or was not reached.
        """
        if self.store is not None:
            from lull_runtime.stores.credentials import Credentials
            from lull_runtime.stores.push import target_of

            return target_of(self.store, Credentials.of_user()).push(self.tar, _card(self.tar), digest)
        if self.folder is not None:
            self._lay_out(self.folder)
        return self.uri or f"file:///{(self.folder or self.tar).name}"

    def _lay_out(self, folder: Path) -> None:
        """As files that appear together: a host may be reading what was there."""
        fresh = folder.with_name(f".{folder.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        unpack(self.tar, fresh, Bounds())
        fresh.rename(folder)


def destination_of(to: str | None, name: str, uri: str | None) -> Destination:
    """Return where `--to` says that a model of this name goes, and `--uri` that it is found.

    Raises:
        NotPublishableError: it is a folder that is not empty, or another scheme's URI.
    """
    tar = Path("build") / f"{name}.tar"
    if to is None:
        return Destination(tar, uri=uri)
    scheme, separator, _ = to.partition("://")
    if separator:
        if scheme not in ("oci", "s3"):
            raise NotPublishableError(
                f"--to {to}: models go to oci://HOST/REPOSITORY, s3://BUCKET/FOLDER, FILE.tar or a folder"
            )
        if uri is not None:
            raise NotPublishableError(f"--uri says where a file is found; of {to} it is known")
        return Destination(tar, store=to)
    path = Path(to)
    if path.suffix == ".tar":
        return Destination(path, uri=uri)
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise NotPublishableError(f"--to {to}: there is something already; name a new folder, or a FILE.tar")
    return Destination(tar, folder=path, uri=uri)


def _card(tar: Path) -> bytes:
    """The card of an artifact, for those who look into the store; a model directory has none."""
    with tarfile.open(tar) as archive:
        if CARD not in archive.getnames() or (file := archive.extractfile(CARD)) is None:
            return b"{}"
        return file.read()
