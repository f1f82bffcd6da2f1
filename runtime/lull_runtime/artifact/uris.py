"""Which URIs a pool lets its hosts fetch from, and which addresses nobody may."""

import ipaddress
import re
from collections.abc import Sequence
from urllib.parse import SplitResult, unquote, urlsplit

from lull.api.reasons import Reason
from lull_runtime.artifact.errors import ModelError

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_UNSPECIFIED, _LOOPBACK = ipaddress.IPv6Address("::"), ipaddress.IPv6Address("::1")

_METADATA = frozenset(
    map(ipaddress.ip_address, ("100.100.100.200", "168.63.129.16", "fd00:ec2::254", "192.0.0.192"))
)
"""Metadata services of clouds that are not at a link-local address."""

_EMBEDDING = tuple(map(ipaddress.IPv6Network, ("::/96", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")))
"""Networks whose addresses end in the IPv4 address that is reached by them (compatible, mapped, NAT64)."""

_DEFAULT_PORTS = {"http": 80, "https": 443, "oci": 443}
_SHOWN = 300
_USER = re.compile(r"^([^/]*//)[^/]*@")
_WITH_HOSTS = ("http:", "https:", "oci:")


def check_uri(uri: str, allowed: Sequence[str]) -> SplitResult:
    """Return the parts of a URI that the pool allows.

    Raises:
        ModelError: no prefix matches, or the URI hides something (see `clear`).
    """
    parts = clear(uri)
    if not any(is_beneath(parts, split(prefix)) for prefix in allowed):
        listed = ", ".join(map(plain, allowed)) or "nothing"
        raise ModelError(
            Reason.URI_NOT_ALLOWED,
            f"{plain(uri)} is not beneath what the pool allows ({listed}); see spec.allow.uris",
        )
    return parts


def clear(uri: str) -> SplitResult:
    """Return the parts of a URI that is written in the one way that all read alike.

    Otherwise a rule for one place would be got round by another spelling of it.

    Raises:
        ModelError: it hides a user, or its path goes up or stays where it is (`..`, `.`, `//`).
    """
    parts = split(uri)
    folders = unquote(parts.path).removeprefix("/").removesuffix("/").split("/")
    wanders = {"..", "."} & set(folders) or ("" in folders and len(folders) > 1)
    if "@" in parts.netloc or "\\" in uri or not uri.isprintable() or wanders:
        raise ModelError(
            Reason.URI_NOT_ALLOWED, f"{plain(uri)}: write it without user names, '..', '.' and '//'"
        )
    return parts


def is_beneath(uri: SplitResult, prefix: SplitResult) -> bool:
    """Whether a clear URI matches a prefix.

    It does by scheme, by host and port where the prefix names them, and by whole parts of the path: never by
    mere text, so that neither `https://models.example.evil/a` nor `https://models.example/ab` is beneath
    `https://models.example/a`. `http://127.0.0.1:` is any port. An image's tag does not count, as it says
    nothing of what is fetched.
    """
    if uri.scheme != prefix.scheme:
        return False
    if prefix.netloc and _host(uri) != _host(prefix):
        return False
    if prefix.netloc and not prefix.netloc.endswith(":") and _port(uri) != _port(prefix):
        return False
    above = _folders(prefix)
    return _folders(uri)[: len(above)] == above


def check_address(address: str, host: str, allowed: Sequence[str]) -> None:
    """Check an address that a host name stands for, before anything connects to it.

    Link-local, metadata and multicast addresses are refused always; loopback unless a prefix names the host.

    Raises:
        ModelError: nothing may connect there.
    """
    ip = _reached(ipaddress.ip_address(address.partition("%")[0]))
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip in _METADATA:
        raise ModelError(Reason.URI_NOT_ALLOWED, f"{host} is at {ip}, an address that models never come from")
    if ip.is_loopback and host not in named_hosts(allowed):
        raise ModelError(
            Reason.URI_NOT_ALLOWED,
            f"{host} is at {ip}, this very machine, and spec.allow.uris does not name it",
        )


def check_public(address: str, host: str) -> None:
    """Check an address that nobody named and a store sends us on to: it must be one of the public network.

    Raises:
        ModelError: it is of a private network, which a store has no business in.
    """
    ip = _reached(ipaddress.ip_address(address.partition("%")[0]))
    if not ip.is_global:
        raise ModelError(
            Reason.URI_NOT_ALLOWED,
            f"the store sends on to {host} at {ip}, which is not public and spec.allow.uris does not name",
        )


def named_hosts(allowed: Sequence[str]) -> set[str | None]:
    """Return the hosts that prefixes name, where their scheme names hosts at all."""
    return {split(prefix).hostname for prefix in allowed if prefix.startswith(_WITH_HOSTS)}


def plain(uri: str) -> str:
    """Return a URI as it may be shown.

    What is before an `@` may be a password, and after a `?` a signature; a server's may be endless.
    """
    shown = _USER.sub(r"\1", uri).partition("?")[0]
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"


def _reached(ip: _Address) -> _Address:
    """The IPv4 address that an IPv6 address is another way to, where it is one."""
    if isinstance(ip, ipaddress.IPv4Address) or ip in (_UNSPECIFIED, _LOOPBACK):
        return ip
    if any(ip in network for network in _EMBEDDING):
        return ipaddress.IPv4Address(ip.packed[-4:])
    return ip.sixtofour or (ip.teredo[1] if ip.teredo else ip)


def split(uri: str) -> SplitResult:
    """Return the parts of a URI.

    Raises:
        ModelError: it is none.
    """
    try:
        parts = urlsplit(uri)
        _ = parts.port  # is only checked when read
        (parts.hostname or "").encode("idna")  # what a resolver would do, and fail at
    except ValueError:  # quotes what it was in, which may be a password
        raise ModelError(Reason.URI_NOT_ALLOWED, f"{plain(uri)} is no URI: check its host and port") from None
    return parts


def _folders(parts: SplitResult) -> list[str]:
    """The parts of a path as its store reads it."""
    path = parts.path
    if parts.scheme == "oci":
        path = path.partition(":")[0]
    elif parts.scheme == "hf":
        path = path.replace("@", "/@", 1)  # the commit is beneath its repository
    return [folder for folder in unquote(path).split("/") if folder]


def _host(parts: SplitResult) -> str:
    return (parts.hostname or "").removesuffix(".")


def _port(parts: SplitResult) -> int | None:
    return parts.port or _DEFAULT_PORTS.get(parts.scheme)
