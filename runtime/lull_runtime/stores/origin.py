"""One blob in some store, which can be read from any of its bytes on; and which store a URI speaks of."""

from typing import Protocol
from urllib.parse import SplitResult, quote, unquote

from lull.api.reasons import Reason
from lull_runtime.artifact.errors import ModelError
from lull_runtime.artifact.uris import check_uri
from lull_runtime.stores.credentials import Credentials
from lull_runtime.stores.files import FileOrigin
from lull_runtime.stores.http import HttpOrigin, Rules, shown_to
from lull_runtime.stores.oci import OciOrigin, Repository
from lull_runtime.stores.s3 import S3Origin, endpoint_of
from lull_runtime.stores.sources import Sources
from lull_runtime.stores.stream import Stream

_HUGGING_FACE = "https://huggingface.co"


class Origin(Protocol):
    """One blob somewhere."""

    async def open(self, offset: int) -> Stream:
        """Begin to read at an offset.

        Raises:
            ModelError: it cannot be had: Unauthorized, Unreachable, UriNotAllowed, NotAModel, DigestMismatch.
            PassingError: it cannot be had now.
        """


def origin_of(uri: str, digest: str, sources: Sources, credentials: Credentials) -> Origin:
    """Return where the tar of this digest is to be had, which the pool allows. Nothing is asked yet.

    Raises:
        ModelError: UriNotAllowed, or Unauthorized where credentials are missing or malformed.
    """
    address, _, pinned = uri.partition("@sha256:")
    parts = check_uri(address, sources.allowed)
    match parts.scheme:
        case "file" | "pvc":
            return _file(address, parts, digest, sources)
        case "http" | "https":
            shown = shown_to(parts, credentials.machine(parts.hostname or ""))
            return HttpOrigin(address, address, digest, Rules(sources.allowed), shown)
        case "oci":
            return _oci(address, f"sha256:{pinned}" if pinned else "", digest, sources, credentials)
        case "s3":
            profile = credentials.aws()
            endpoint = endpoint_of(profile)
            rules = Rules([*sources.allowed, endpoint], endpoint)
            key = unquote(parts.path).lstrip("/")
            return S3Origin(address, digest, parts.netloc, key, profile, rules)
        case "hf":
            return _hugging_face(address, parts, digest, sources, credentials)
    raise ModelError(
        Reason.URI_NOT_ALLOWED, f"{parts.scheme}: is no store; take https:, oci:, s3:, hf:, pvc: or file:"
    )


def _file(uri: str, parts: SplitResult, digest: str, sources: Sources) -> FileOrigin:
    if parts.scheme == "file":
        if parts.netloc:
            raise ModelError(Reason.URI_NOT_ALLOWED, f"{uri} leads out of the pool's files volume")
        return FileOrigin(uri, digest, sources.files, "file:///", sources.allowed)
    claim = sources.claims.get(parts.netloc)
    if claim is None:
        raise ModelError(Reason.URI_NOT_ALLOWED, f"{uri}: no volume claim of that name is mounted here")
    return FileOrigin(uri, digest, claim, f"pvc://{parts.netloc}/", sources.allowed)


def _oci(uri: str, pinned: str, digest: str, sources: Sources, credentials: Credentials) -> OciOrigin:
    repository = Repository.of(uri)
    rules = Rules(sources.allowed, repository.base)
    return OciOrigin(uri, pinned, digest, repository, rules, credentials.registry(repository.host))


def _hugging_face(
    uri: str, parts: SplitResult, digest: str, sources: Sources, credentials: Credentials
) -> HttpOrigin:
    """`hf://ORGANISATION/NAME@COMMIT/FILE`, as huggingface.co lays repositories out."""
    name, _, rest = parts.path.lstrip("/").partition("@")
    commit, _, file = rest.partition("/")
    if not (parts.netloc and name and commit and file):
        raise ModelError(Reason.URI_NOT_ALLOWED, f"{uri} is not hf://ORGANISATION/NAME@COMMIT/FILE")
    url = f"{_HUGGING_FACE}/{parts.netloc}/{name}/resolve/{commit}/{quote(unquote(file))}"
    token = credentials.hugging_face()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return HttpOrigin(url, uri, digest, Rules([*sources.allowed, _HUGGING_FACE], _HUGGING_FACE), headers)
