"""Puts an artifact's tar into a registry or an object store, by a name that says its content."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lull.api.reasons import Reason
from lull_runtime.artifact.errors import ModelError
from lull_runtime.artifact.uris import split
from lull_runtime.stores.credentials import Credentials
from lull_runtime.stores.oci import Repository
from lull_runtime.stores.s3 import store_of


class Target(Protocol):
    """A place in a store that takes artifacts."""

    def push(self, tar: Path, card: bytes, digest: str) -> str:
        """Put a tar there and return the URI for `spec.model.uri`, beside its digest.

        Raises:
            ModelError: Unauthorized or Unreachable.
        """


def target_of(uri: str, credentials: Credentials) -> Target:
    """Return where `oci://HOST/REPOSITORY[:TAG]` or `s3://BUCKET/FOLDER` is. Nothing is asked yet.

    Raises:
        ModelError: UriNotAllowed where it is neither, Unauthorized where credentials are malformed.
    """
    parts = split(uri)
    if parts.scheme == "oci" and parts.netloc and parts.path.strip("/"):
        from lull_runtime.stores.push_oci import OciTarget  # takes half a second

        repository = Repository.of(uri)
        return OciTarget(repository, credentials.registry(repository.host))
    if parts.scheme == "s3" and parts.netloc:
        return S3Target(parts.netloc, parts.path.strip("/"), credentials)
    raise ModelError(
        Reason.URI_NOT_ALLOWED,
        f"{uri}: give oci://HOST/REPOSITORY or s3://BUCKET/FOLDER; a file can be copied to any other place",
    )


@dataclass(frozen=True)
class S3Target:
    """A folder of a bucket, in which each artifact is `<digest>.tar`."""

    bucket: str
    folder: str
    credentials: Credentials

    def push(self, tar: Path, card: bytes, digest: str) -> str:
        """Put a tar there; its card is in it."""
        import obstore
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        key = "/".join(filter(None, (self.folder, digest.removeprefix("sha256:") + ".tar")))
        uri = f"s3://{self.bucket}/{key}"
        try:
            obstore.put(store_of(self.bucket, self.credentials.aws()), key, tar)
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise ModelError(Reason.UNAUTHORIZED, f"{uri}: {_first_lines(error)}") from error
        except (BaseError, OSError) as error:
            raise ModelError(Reason.UNREACHABLE, f"{uri}: {_first_lines(error)}") from error
        return uri


def _first_lines(error: Exception) -> str:
    """What is said before the client's own inner life."""
    return str(error).partition("\n\n")[0]
