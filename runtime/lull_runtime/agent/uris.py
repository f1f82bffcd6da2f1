"""Which URIs a pool lets its hosts fetch from, and which addresses nobody may."""

import ipaddress
from collections.abc import Sequence
from urllib.parse import SplitResult, unquote, urlsplit

from lull.api.reasons import Reason
from lull_runtime.artifact.errors import ModelError

_METADATA = frozenset(
    map(ipaddress.ip_address, ("100.100.100.200", "168.63.129.16", "fd00:ec2::254", "192.0.0.192"))
)
"""Metadata services of clouds that are not at a link-local address."""

_DEFAULT_PORTS = {"http": 80, "https": 443}


def check_uri(uri: str, allowed: Sequence[str]) -> SplitResult:
    """Return the parts of a URI that the pool allows.

    A prefix matches by scheme, by host and port where it names them, and by path: never by mere text, so
    `https://models.example` does not allow `https://models.example.evil`. `http://127.0.0.1:` is any port.

    Raises:
        ModelError: no prefix matches, or the URI hides something (a user, a `..`).
    """
    parts = _split(uri)
    if "@" in parts.netloc or ".." in unquote(parts.path).split("/") or "\\" in uri:
        raise ModelError(Reason.URI_NOT_ALLOWED, f"{uri}: write it without user names and '..'")
    if not any(_matches(parts, _split(prefix)) for prefix in allowed):
        listed = ", ".join(allowed) or "nothing"
        raise ModelError(
            Reason.URI_NOT_ALLOWED,
            f"{uri} is not beneath what the pool allows ({listed}); see spec.allow.uris",
        )
    return parts


def check_address(address: str, host: str, allowed: Sequence[str]) -> None:
    """Check an address that a host name stands for, before anything connects to it.

    Link-local, metadata and multicast addresses are refused always; loopback unless a prefix names the host.

    Raises:
        ModelError: nothing may connect there.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip in _METADATA:
        raise ModelError(Reason.URI_NOT_ALLOWED, f"{host} is at {ip}, an address that models never come from")
    if ip.is_loopback and host not in {_split(prefix).hostname for prefix in allowed}:
        raise ModelError(
            Reason.URI_NOT_ALLOWED,
            f"{host} is at {ip}, this very machine, and spec.allow.uris does not name it",
        )


def _split(uri: str) -> SplitResult:
    try:
        parts = urlsplit(uri)
        _ = parts.port  # is only checked when read
        (parts.hostname or "").encode("idna")  # what a resolver would do, and fail at
    except ValueError as error:
        raise ModelError(Reason.URI_NOT_ALLOWED, f"{uri} is no URI: {error}") from error
    return parts


def _matches(uri: SplitResult, prefix: SplitResult) -> bool:
    if uri.scheme != prefix.scheme:
        return False
    if prefix.netloc and uri.hostname != prefix.hostname:
        return False
    if prefix.netloc and not prefix.netloc.endswith(":") and _port(uri) != _port(prefix):
        return False
    return uri.path.startswith(prefix.path)


def _port(parts: SplitResult) -> int | None:
    return parts.port or _DEFAULT_PORTS.get(parts.scheme)
