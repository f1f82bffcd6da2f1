"""What the pilot is told by its environment, and the bounds that Envoy and the pilot share."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from lull.api.names import ENVOY_STATS_PORT, GATEWAY_PORT, PILOT_PORT

HOLD_LIMIT_SECONDS = 600.0
"""No request is held longer, whatever `spec.hold.timeout` says: Envoy's own deadlines stand above it."""
HOLD_LIMIT_TOTAL = 20_000
"""Most requests held at once by one gateway, over all services."""
STREAM_WINDOW_BYTES = 64 * 1024
"""What one held request may make Envoy buffer; HTTP/2's own default, and the least it allows."""
STREAMS_PER_CONNECTION = 1024
SHADOW_CLUSTER = "lull.shadow"
"""Where Envoy sends copies of requests, where a candidate is in shadow: to `lull.gateway.shadow`."""
SHADOW_COPIES = 64
"""Most copies at once: being sent, waiting, or being asked. Those above it are dropped."""
SHADOW_BODY_BYTES = 1024 * 1024
"""The largest request of which a copy is compared."""
SHADOW_SEND_SECONDS = 2
"""How long a copy may be on its way to the pilot: if we hang, so long does a large request wait for us."""

_LONGEST_SOCKET_PATH_BYTES = 107


@dataclass(frozen=True)
class Settings:
    """Where this gateway runs and what it is called.

    Attributes:
        address: the Pod's IP; everything listens there and nowhere else.
        domain: services answer at `<name>.<namespace>.<domain>`.
        run: the folder shared with Envoy: its bootstrap and the three sockets.
    """

    pod_name: str
    pod_namespace: str
    address: str
    domain: str
    run: Path
    inference_port: int = GATEWAY_PORT
    probe_port: int = PILOT_PORT
    statistics_port: int = ENVOY_STATS_PORT

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read POD_NAME, POD_NAMESPACE, POD_IP, LULL_DOMAIN and LULL_RUN.

        Raises:
            SystemExit: one that has no default is unset; the message says which.
        """
        missing = [name for name in ("POD_NAME", "POD_NAMESPACE", "POD_IP") if not environment.get(name)]
        if missing:
            raise SystemExit(f"set {', '.join(missing)}: in a Pod, by the downward API (fieldRef)")
        return cls(
            pod_name=environment["POD_NAME"],
            pod_namespace=environment["POD_NAMESPACE"],
            address=environment["POD_IP"],
            domain=environment.get("LULL_DOMAIN", "lull.localhost").lower().strip("."),
            run=Path(environment.get("LULL_RUN", "/run/lull")),
        )

    def __post_init__(self) -> None:
        for socket in (self.xds_socket, self.admin_socket, self.shadow_socket):
            if len(os.fsencode(socket)) > _LONGEST_SOCKET_PATH_BYTES:
                raise SystemExit(
                    f"{socket} is longer than the {_LONGEST_SOCKET_PATH_BYTES} bytes that a Unix socket's "
                    "path may have; set LULL_RUN to a shorter folder"
                )

    @property
    def xds_socket(self) -> Path:
        """Where the pilot serves xDS, `Check` and health to Envoy."""
        return self.run / "xds.sock"

    @property
    def admin_socket(self) -> Path:
        """Where Envoy serves its admin interface to the pilot."""
        return self.run / "admin.sock"

    @property
    def shadow_socket(self) -> Path:
        """Where the pilot takes Envoy's copies of requests to services with a candidate in shadow."""
        return self.run / "shadow.sock"

    @property
    def bootstrap_file(self) -> Path:
        """What Envoy is started with."""
        return self.run / "envoy.yaml"


def service_key(host: str, domain: str) -> str:
    """Return `namespace/name` of a host name, or nothing that any service is called."""
    host = host.lower().partition(":")[0].rstrip(".")
    label, _, namespace = host.removesuffix("." + domain).partition(".")
    return f"{namespace}/{label}" if host.endswith("." + domain) else ""
